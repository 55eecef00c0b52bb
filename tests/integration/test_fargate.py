"""`--cluster fargate` against moto's ECS, whose tasks run as processes here: the flow, its cluster, and its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling, Crashed

from deployments.aws.job_template import environment
from deployments.local.prefect_worker import PrefectWorker
from flows import fargate_cluster, fargate_tasks
from flows.fargate import FargateSettings, end_cluster
from flows.fargate_tasks import EcsTasks
from flows.store_hazard import run, store_hazard
from hazard_store.errors import ClusterError, HazardStoreError
from hazard_store.jobs import Silent, StoreRequest
from hazard_store.layouts import LAYOUTS
from hazard_store.ledger import Ledger
from hazard_store.local.prefect_server import PrefectServer
from hazard_store.meta import read_meta
from hazard_store.settings import Settings
from tests.iam import is_allowed
from tests.integration import aws as fixtures
from tests.integration.aws import BUCKET, IMAGE, PREFIX, REGION, STAGE, Aws
from tests.integration.fargate import ACCOUNT, FakeFargate, fake_fargate

aws = fixtures.aws

pytestmark = [
    pytest.mark.filterwarnings("ignore:Tried to parse AWS..(EC2|SecretsManager|SQS):UserWarning"),
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the loopback interface has 127.0.0.1 alone"),
]

CUSTOM = "custom_ids.hdf5"
PACKED = LAYOUTS["packed+solution"]
REALISATIONS = "realisations:00000-00005"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:hazard-store/{STAGE}/prefect-a1B2c3"

# At this budget the realisations, 60 WCU, are under way long enough to be interrupted.
SLOW_WCU = 12.0


def until(condition: Callable[[], Any], timeout_secs: float = 100.0) -> Any:
    deadline = time.monotonic() + timeout_secs
    while not (result := condition()):
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.1)
    return result


@pytest.fixture
def pool(aws: Aws, stage: str, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a flow run of the stack's work pool, but for the stage and the Prefect server."""
    variables = environment(aws.outputs)
    # moto's CloudFormation makes no secret.
    variables["HAZARD_STORE_FARGATE_SECRETS"] = f"PREFECT_API_KEY={SECRET}"
    variables["AWS_ENDPOINT_URL"] = aws.endpoint
    for name, value in variables.items():
        if name.startswith(("DASK_", "HAZARD_STORE_FARGATE_", "AWS_")):
            monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def fargate(aws: Aws, pool: dict[str, str], tables: Settings, tmp_path: Path) -> Iterator[FakeFargate]:
    """That, and a Fargate that runs what ECS is asked for."""
    aws.client("ecs").put_account_setting(name="taskLongArnFormat", value="enabled")
    # What is lost is replaced after this, and not after Dask's 15 s.
    with fake_fargate(tmp_path) as running, dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}):
        yield running
        assert running.definitions() == []
        until(lambda: not running.living())


def storing(tables: Settings, haz_sol_id: str) -> bool:
    record = Ledger(tables).chunks(haz_sol_id, PACKED).get(REALISATIONS)  # type: ignore[call-overload]
    return record is not None and record.status == "running"


@contextmanager
def meanwhile(condition: Callable[[], Any], act: Callable[[], None]) -> Iterator[None]:
    """Do something, once, when a condition has come, beside the block."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            if condition():
                act()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def flow_run_of(haz_sol_id: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        name = FlowRunFilterName(any_=[f"store {haz_sol_id}"])
        (found,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=name))
        return found


def test_a_store_whose_spot_worker_is_reclaimed_is_completed_by_another(
    aws: Aws, fargate: FakeFargate, tables: Settings, data_dir: Path
) -> None:
    def reclaim() -> None:
        (worker,) = fargate.workers()
        fargate.reclaim(worker)

    fargate.sent.clear()
    request = StoreRequest(str(data_dir / CUSTOM), "FARGATE-1", max_wcu=SLOW_WCU)
    with meanwhile(lambda: storing(tables, "FARGATE-1"), reclaim):
        report = run(request, "fargate", 1, Silent())
    assert report.complete
    assert report.totals().items == 85
    assert read_meta("FARGATE-1", tables).complete

    scheduler, *workers = fargate.containers
    assert scheduler.role == "dask-scheduler"
    assert len(workers) == 2
    run_id = flow_run_of("FARGATE-1").id
    name = f"hazard-store-{tables.stage}_{run_id.hex}"
    for container, capacity in [(scheduler, "FARGATE"), *((worker, "FARGATE_SPOT") for worker in workers)]:
        task, definition = container.task, container.definition
        assert definition.family == f"dask-{name}-{container.role.removeprefix('dask-')}"
        assert (definition.cpu, definition.memory, definition.network_mode) == ("256", "1024", "awsvpc")
        assert definition.execution_role_arn == aws.outputs["ExecutionRoleArn"]
        assert definition.task_role_arn == aws.outputs["WorkerRoleArn"]
        (described,) = definition.container_definitions
        assert described["image"] == IMAGE
        assert described["logConfiguration"]["options"]["awslogs-group"] == aws.outputs["DaskLogGroup"]
        assert described["secrets"] == [{"name": "PREFECT_API_KEY", "valueFrom": SECRET}]
        assert task.capacity_provider_name == capacity
        network = task.network_configuration["awsvpcConfiguration"]
        assert network["assignPublicIp"] == "ENABLED"
        assert network["securityGroups"] == [aws.outputs["DaskSecurityGroup"]]
        assert network["subnets"] == aws.outputs["SubnetIds"].split(",")
        assert task.started_by == name
        assert {"key": "createdBy", "value": "dask-cloudprovider"} in task.tags
        assert container.variables["HAZARD_STORE_STAGE"] == tables.stage
        assert container.variables["DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION"] == "1.0"
        assert not [n for n in container.variables if any(word in n for word in ("KEY", "SECRET", "TOKEN"))]
    check_permissions(aws, fargate.sent)


def check_permissions(aws: Aws, sent: set[str]) -> None:
    """What a run sent is what its role may."""
    ecs = f"arn:aws:ecs:{REGION}:{ACCOUNT}:"
    cluster = f"{ecs}cluster/hazard-store-{STAGE}"
    definition, task = f"{ecs}task-definition/dask-hazard-store-{STAGE}_0-worker:1", f"{ecs}task/hazard-store-{STAGE}/0"
    asked: dict[str, tuple[str, dict[str, str]]] = {
        "ec2:DescribeNetworkInterfaces": ("*", {}),
        "ecs:DeleteTaskDefinitions": (definition, {}),
        "ecs:DeregisterTaskDefinition": ("*", {}),
        "ecs:DescribeClusters": (cluster, {}),
        "ecs:DescribeTaskDefinition": ("*", {}),
        "ecs:DescribeTasks": (task, {}),
        "ecs:ListAccountSettings": ("*", {}),
        "ecs:ListTaskDefinitionFamilies": ("*", {}),
        "ecs:ListTaskDefinitions": ("*", {}),
        "ecs:ListTasks": ("*", {"ecs__cluster": cluster}),
        "ecs:RegisterTaskDefinition": (definition, {}),
        "ecs:RunTask": (definition, {"ecs__cluster": cluster}),
        "ecs:StopTask": (task, {"aws__ResourceTag/createdBy": "dask-cloudprovider"}),
    }
    assert {"ecs:RunTask", "ecs:StopTask", "ecs:DeleteTaskDefinitions"} < sent <= asked.keys()
    policies = aws.policies("FlowRole")
    assert [a for a, (resource, context) in asked.items() if not is_allowed(policies, a, resource, **context)] == []


@pytest.fixture
def worker(
    fargate: FakeFargate, deployed_server: PrefectServer, tables: Settings, tmp_path: Path
) -> Iterator[SyncPrefectClient]:
    """The client of a Prefect server whose runs are started with the environment of the stack's work pool."""
    variables = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "DASK_", "HAZARD_"))}
    home = tmp_path / "worker"
    with (
        PrefectWorker.start(api_url=deployed_server.api_url, home=home, variables=variables),
        get_client(sync_client=True) as client,
    ):
        yield client


def test_a_deployed_run_that_is_cancelled_leaves_nothing(
    worker: SyncPrefectClient, fargate: FakeFargate, tables: Settings, data_dir: Path
) -> None:
    deployment = worker.read_deployment_by_name("store_hazard/store-hazard")
    parameters = {
        "source": str(data_dir / CUSTOM),
        "haz_sol_id": "FARGATE-4",
        "cluster": "fargate",
        "workers": 1,
        "max_wcu": SLOW_WCU,
    }
    run_id = worker.create_flow_run_from_deployment(deployment.id, parameters=parameters).id
    until(lambda: storing(tables, "FARGATE-4"))
    worker.set_flow_run_state(run_id, Cancelling())
    until(lambda: worker.read_flow_run(run_id).state_name == "Cancelled")
    assert [one.role for one in fargate.containers] == ["dask-scheduler", "dask-worker"]
    assert {one.task.desired_status for one in fargate.containers} == {"STOPPED"}
    assert fargate.definitions() == []
    # The lease was given back, and what was cancelled is resumed.
    assert run(StoreRequest(str(data_dir / CUSTOM), "FARGATE-4"), "none", None, Silent()).complete


def test_a_run_whose_object_is_deleted_meanwhile_fails_and_leaves_nothing(
    aws: Aws, fargate: FakeFargate, tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With workers that come as there is work for them."""
    monkeypatch.setenv("HAZARD_STORE_FARGATE_WORKERS", "1-2")
    s3, key = aws.client("s3"), f"{PREFIX}calc_7.hdf5"
    s3.upload_file(str(data_dir / CUSTOM), BUCKET, key)
    request = StoreRequest(f"s3://{BUCKET}/{key}", "FARGATE-5", max_wcu=SLOW_WCU)
    with meanwhile(lambda: storing(tables, "FARGATE-5"), lambda: s3.delete_object(Bucket=BUCKET, Key=key)):
        report = run(request, "fargate", None, Silent())
    (failed,) = [outcome for outcome in report.failed if outcome.chunk_id == REALISATIONS]
    assert failed.error == f"{request.source}: is no longer there; put it back, then run again"
    assert not report.complete
    state = flow_run_of("FARGATE-5").state
    assert state is not None
    assert (state.type.value, REALISATIONS in str(state.message)) == ("FAILED", True)
    assert 1 <= len(fargate.workers()) <= 2
    assert {one.task.desired_status for one in fargate.containers} == {"STOPPED"}


def test_ctrl_c_stops_every_task(fargate: FakeFargate, tables: Settings, data_dir: Path) -> None:
    request = StoreRequest(str(data_dir / CUSTOM), "FARGATE-2", max_wcu=SLOW_WCU)
    with (
        meanwhile(lambda: storing(tables, "FARGATE-2"), lambda: os.kill(os.getpid(), signal.SIGINT)),
        pytest.raises(KeyboardInterrupt),
    ):
        run(request, "fargate", 1, Silent())
    assert {one.task.desired_status for one in fargate.containers} == {"STOPPED"}


# The first worker, too, must come within it.
IDLE_SECS = 20
KILLED = f"""
import sys
from flows import fargate_cluster
fargate_cluster.IDLE_SECS = {IDLE_SECS}
from hazard_store.cli import main
main(sys.argv[1:])
"""


def test_the_cluster_of_a_run_that_is_killed_ends_by_itself(
    fargate: FakeFargate, tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAZARD_STORE_FARGATE_WORKERS", "1-2")
    words = ["store", str(data_dir / CUSTOM), "--id", "FARGATE-3", "--cluster", "fargate", "--max-wcu", str(SLOW_WCU)]
    with subprocess.Popen([sys.executable, "-c", KILLED, *words], stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: storing(tables, "FARGATE-3") or process.poll() is not None)
        finally:
            process.kill()
        said = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, said
    assert fargate.living()
    until(lambda: not fargate.living())
    assert len(fargate.definitions()) == 2
    settings = FargateSettings.from_environment()
    EcsTasks(settings).remove(settings.name_of(flow_run_of("FARGATE-3").id.hex))


def test_the_next_run_takes_away_the_definitions_of_one_that_was_killed(
    fargate: FakeFargate, monkeypatch: pytest.MonkeyPatch
) -> None:
    fargate.broken = {"dask-scheduler": ""}
    settings = FargateSettings.from_environment()
    ecs = EcsTasks(settings)
    name = settings.name_of("0")
    run_task(fargate, settings, ecs.register(name, {})["scheduler"], name)
    with monkeypatch.context() as later:
        later.setattr(fargate_tasks, "ABANDONED_SECS", 0.0)
        ecs.remove_abandoned()
    assert len(fargate.definitions()) == 2, "its task still runs"
    until(fargate.living)
    fargate.stop(fargate.containers[0])
    forget_ended_tasks(fargate)
    ecs.remove_abandoned()
    assert len(fargate.definitions()) == 2, "it may still be starting"
    monkeypatch.setattr(fargate_tasks, "ABANDONED_SECS", 0.0)
    ecs.remove_abandoned()
    assert fargate.definitions() == []


def run_task(fargate: FakeFargate, settings: FargateSettings, definition: str, starter: str) -> None:
    network = {"awsvpcConfiguration": {"subnets": [settings.subnets[0]], "securityGroups": []}}
    fargate.backend.run_task(settings.cluster_arn, definition, 1, None, starter, [], "FARGATE", network)


def forget_ended_tasks(fargate: FakeFargate) -> None:
    """As ECS does within an hour; moto lists them for ever."""
    for tasks in fargate.backend.tasks.values():
        for arn in [arn for arn, task in tasks.items() if task.desired_status == "STOPPED"]:
            del tasks[arn]


def test_the_hook_of_a_run_that_is_killed_takes_its_cluster_away(
    fargate: FakeFargate, pool: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the worker that started the run calls it, when the run's process is gone."""
    fargate.broken = {"dask-scheduler": ""}
    settings = FargateSettings.from_environment()
    flow_run = FlowRun(flow_id=uuid.uuid4(), parameters={"cluster": "fargate"})
    name = settings.name_of(flow_run.id.hex)
    arn = EcsTasks(settings).register(name, {})["scheduler"]
    neighbour = EcsTasks(settings).register(settings.name_of("0"), {})["scheduler"]
    for definition, starter in ((arn, name), (neighbour, settings.name_of("0"))):
        run_task(fargate, settings, definition, starter)
    until(lambda: len(fargate.containers) == 2)
    end_cluster(store_hazard, flow_run.model_copy(update={"parameters": {"cluster": "local"}}), Crashed())
    assert len(fargate.living()) == 2
    end_cluster(store_hazard, flow_run, Crashed())
    (left,) = fargate.living()
    assert left.task.started_by == settings.name_of("0")
    assert len(fargate.definitions()) == 2
    EcsTasks(settings).remove(settings.name_of("0"))


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (
            {"dask-scheduler": "CannotPullContainerError: no such image"},
            "its scheduler did not come up: CannotPullContainerError: no such image",
        ),
        (
            {"dask-worker": "CannotPullContainerError: no such image"},
            "its worker did not come up: CannotPullContainerError: no such image",
        ),
        ({"dask-scheduler": ""}, r"its scheduler did not come up: nothing answers at 127\.[.0-9]+ after 5 s"),
        ({"dask-worker": ""}, "no worker came to its scheduler within 8 s"),
    ],
    ids=["scheduler-stops", "worker-stops", "scheduler-silent", "worker-silent"],
)
def test_a_cluster_that_does_not_come_up_is_one_line(
    fargate: FakeFargate,
    tables: Settings,
    data_dir: Path,
    broken: dict[str, str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fargate.broken = broken
    if broken == {"dask-scheduler": ""}:
        monkeypatch.setattr(fargate_cluster, "START_SECS", 5.0)

    def shorten() -> None:
        # Not before the scheduler is under way: on a busy machine it takes longer than that to come up.
        if broken == {"dask-worker": ""}:
            monkeypatch.setattr(fargate_cluster, "START_SECS", 8.0)

    haz_sol_id = f"FARGATE-{uuid.uuid4().hex[:6]}"
    with meanwhile(lambda: fargate.containers, shorten), pytest.raises(ClusterError) as caught:
        run(StoreRequest(str(data_dir / CUSTOM), haz_sol_id), "fargate", 1, Silent())
    assert re.match(rf"the Dask cluster on Fargate did not come up: {line}\. The logs", str(caught.value))
    state = flow_run_of(haz_sol_id).state
    assert state is not None
    assert (state.type.value, state.message) == ("FAILED", str(caught.value))
    assert {one.task.desired_status for one in fargate.containers} == {"STOPPED"}
    # Nothing was stored, and nobody has to wait for a lease.
    assert run(StoreRequest(str(data_dir / CUSTOM), haz_sol_id), "none", None, Silent()).complete


def test_a_task_that_ecs_does_not_know_yet_is_waited_for(
    fargate: FakeFargate, tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = StoreRequest(str(data_dir / CUSTOM), "FARGATE-6")
    monkeypatch.setattr(fargate_cluster, "MAX_LOOKS_WITHOUT", 0)
    fargate.blind_looks = 1_000
    with pytest.raises(ClusterError, match="its scheduler did not come up: ECS does not know the task that it has"):
        run(request, "fargate", 1, Silent())
    assert {one.task.desired_status for one in fargate.containers} == {"STOPPED"}
    monkeypatch.setattr(fargate_cluster, "MAX_LOOKS_WITHOUT", 2)
    fargate.blind_looks = 2
    assert run(request, "fargate", 1, Silent()).complete


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        (
            {"DASK_CLOUDPROVIDER__ECS__CLUSTER_ARN": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/x"},
            "there is no ECS cluster",
        ),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
            f"no cluster on Fargate: ECS in {REGION} refused or did not answer",
        ),
        (
            {"AWS_ENDPOINT_URL": "localhost"},
            f"no cluster on Fargate: ECS in {REGION} refused or did not answer: Invalid",
        ),
        ({"AWS_ACCESS_KEY_ID": None}, f"no cluster on Fargate: ECS in {REGION} refused or did not answer"),
    ],
    ids=["no-cluster", "no-answer", "no-url", "no-credentials"],
)
def test_an_ecs_that_refuses_is_one_line(
    fargate: FakeFargate, variables: dict[str, str | None], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as changed:
        for name, value in variables.items():
            changed.delenv(name) if value is None else changed.setenv(name, value)
        settings = FargateSettings.from_environment()
        with pytest.raises(HazardStoreError) as caught:
            EcsTasks(settings).register(settings.name_of("0"), {})
        assert str(caught.value).startswith(line)
