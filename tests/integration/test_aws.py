"""The stacks deployed in moto's AWS: what their tables hold, what their roles may, what the ECS work pool starts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import click
import pytest
import yaml
from botocore.exceptions import ClientError
from moto.core.authorization import enable_iam_authentication
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws import AwsCredentials, S3Bucket

from deployments.aws import blocks, work_pool
from deployments.aws.job_template import STOP_TIMEOUT_SECS, base_job_template
from deployments.local.prefect_worker import CHECKOUT
from flows.fargate import FargateSettings
from hazard_store.cli.entry import run
from hazard_store.errors import UsageError
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS
from hazard_store.local.prefect_server import PrefectServer
from hazard_store.settings import Settings
from hazard_store.storage.models import MODELS
from hazard_store.trial_tables import trial_settings
from tests.iam import is_allowed
from tests.integration import aws as fixtures
from tests.integration.aws import BUCKET, IMAGE, PREFIX, REGION, RUNS_STACK, STAGE, WORK_POOL, Aws, deploy
from tests.integration.fault_proxy import fault_proxy
from tests.unit.cli.running import RunCli, run_cli_with

aws = fixtures.aws

# What moto's CloudFormation does not know, of all that is in the templates; it makes the rest.
UNKNOWN_TO_MOTO = {"DaskToDask", "PrefectSecret", "TaskEventsQueuePolicy"}

pytestmark = [
    pytest.mark.filterwarnings("ignore:Tried to parse AWS..(EC2|SecretsManager|SQS):UserWarning"),
]

ACCOUNT = "123456789012"
TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/"
ECS = f"arn:aws:ecs:{REGION}:{ACCOUNT}:"
CLUSTER = f"{ECS}cluster/hazard-store-{STAGE}"
TO_ECS = {"iam__PassedToService": "ecs-tasks.amazonaws.com"}


@pytest.fixture
def on_aws(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """The stacks, with the environment of an operator who may do everything there."""
    for name, value in aws.variables.items():
        monkeypatch.setenv(name, value)
    return aws


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> RunCli:
    return run_cli_with(capsys)


def test_every_resource_is_made(aws: Aws) -> None:
    def made(template: str) -> set[str]:
        # Tags such as !Sub are of no interest here: only the names of the resources are.
        text = re.sub(r"!\w+", "", (fixtures.TEMPLATES / template).read_text())
        resources = yaml.safe_load(text)["Resources"]
        return {name for name, resource in resources.items() if resource.get("Condition") != "Benchmarks"}

    assert aws.tables.keys() == made("tables.yaml")
    assert aws.image.keys() == made("image.yaml")
    assert made("runs.yaml") - aws.runs.keys() == UNKNOWN_TO_MOTO


def test_logs_end_and_nothing_is_reached_from_outside(aws: Aws) -> None:
    groups = aws.client("logs").describe_log_groups(logGroupNamePrefix=f"/hazard-store/{STAGE}/")["logGroups"]
    assert {g["logGroupName"]: g["retentionInDays"] for g in groups} == {
        f"/hazard-store/{STAGE}/{name}": 30 for name in ("dask", "flows", "prefect-worker")
    }
    flow, dask = aws.outputs["FlowSecurityGroup"], aws.outputs["DaskSecurityGroup"]
    described = aws.client("ec2").describe_security_groups(GroupIds=[flow, dask])["SecurityGroups"]
    ingress = {group["GroupId"]: group["IpPermissions"] for group in described}
    assert ingress[flow] == []
    assert not [rule for rule in ingress[dask] if rule["IpRanges"] or rule["Ipv6Ranges"]]
    sources = {(r["FromPort"], r["ToPort"], pair["GroupId"]) for r in ingress[dask] for pair in r["UserIdGroupPairs"]}
    assert sources == {(1024, 65535, dask), (8786, 8787, flow)}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_tables_of_the_template_serve_a_store_with_the_flows_permissions(
    aws: Aws, layout: Layout, stage: str, dynamodb_endpoint: str, data_dir: Path, cli: RunCli, monkeypatch: Any
) -> None:
    """Moto's DynamoDB is none: what CloudFormation made there is made again in DynamoDB Local, and used."""
    made = deploy(aws.client("cloudformation"), "tables.yaml", f"tables-{stage}", Stage=stage)
    local = boto3.client(
        "dynamodb",
        region_name=REGION,
        endpoint_url=dynamodb_endpoint,
        aws_access_key_id=LOCAL_CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=LOCAL_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )
    for table in made.values():
        described = aws.client("dynamodb").describe_table(TableName=table)["Table"]
        assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert str(described["DeletionProtectionEnabled"]).lower() == "true"
        keys = {name: described[name] for name in ("TableName", "AttributeDefinitions", "KeySchema")}
        local.create_table(**keys, BillingMode="PAY_PER_REQUEST")

    sent: set[tuple[str, str]] = set()

    def remember(operation: str, body: bytes) -> None:
        document = json.loads(body)
        tables = [document["TableName"]] if "TableName" in document else document["RequestItems"]
        sent.update((f"dynamodb:{operation}", table) for table in tables)

    source = data_dir / "custom_ids.hdf5"
    names = ["--encoding", layout.encoding.name, "--partition", layout.partition.name]
    with fault_proxy(dynamodb_endpoint) as proxy:
        proxy.rule = remember
        monkeypatch.setenv("HAZARD_STORE_ENDPOINT", proxy.endpoint)
        assert cli("store", source, "--id", "A", "--cluster", "none", *names).code == 0
        assert cli("verify", source, "--id", "A", *names).code == 0
        assert cli("get", "A", "--site", "WLG", "--json").out.count("\n") > 0
        assert cli("delete", "A", "--yes").code == 0
    policies = aws.policies("FlowRole")
    assert {action for action, _ in sent} >= {"dynamodb:BatchWriteItem", "dynamodb:PutItem", "dynamodb:DeleteItem"}
    assert [r for r in sorted(sent) if not is_allowed(policies, r[0], TABLE + r[1].replace(stage, STAGE))] == []


WRITES = ["dynamodb:BatchWriteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
READS = ["dynamodb:BatchGetItem", "dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:Query"]
NEIGHBOURS = [
    "ToshiOpenquakeHazardMeta-TEST",
    f"ToshiOpenquakeHazardMeta-{STAGE}-2",
    f"ToshiOpenquakeHazardGridded-{STAGE}",
    f"HazardStoreLedger-{STAGE}/index/x",
    "terraform-locks",
]


@pytest.mark.parametrize("role", ["WorkerRole", "FlowRole"])
def test_items_of_the_stages_tables_and_of_no_other(aws: Aws, role: str) -> None:
    policies = aws.policies(role)
    for model in MODELS:
        mine = f"{TABLE}{model.table_base}-{STAGE}"
        assert all(is_allowed(policies, action, mine) for action in WRITES + READS)
        for action in ("CreateTable", "DeleteTable", "UpdateTable", "Scan", "RestoreTableToPointInTime", "ExportTable"):
            assert not is_allowed(policies, f"dynamodb:{action}", mine)
    for neighbour in NEIGHBOURS:
        assert not [action for action in WRITES + READS if is_allowed(policies, action, TABLE + neighbour)]
    trial = f"{TABLE}HazardStoreMeta-{STAGE}-BENCH-0123abcd"
    assert not is_allowed(policies, "dynamodb:CreateTable", trial)


def test_a_worker_deletes_only_segments_of_metas(aws: Aws) -> None:
    policies = aws.policies("WorkerRole")
    deletable = {
        m.table_base for m in MODELS if is_allowed(policies, "dynamodb:DeleteItem", TABLE + f"{m.table_base}-{STAGE}")
    }
    assert deletable == {"HazardStoreMeta"}
    assert not is_allowed(policies, "ecs:RunTask", f"{ECS}task-definition/x:1", ecs__cluster=CLUSTER)
    assert not is_allowed(policies, "iam:PassRole", aws.outputs["FlowRoleArn"], **TO_ECS)
    assert not is_allowed(policies, "secretsmanager:GetSecretValue", "*")


def test_trials_have_tables_of_their_own_where_they_are_allowed(aws: Aws) -> None:
    text = (fixtures.TEMPLATES / "runs.yaml").read_text()
    assert text.count("-BENCH-") == 2  # the parameter's description and the policy
    cloudformation = aws.client("cloudformation")
    stack = cloudformation.describe_stacks(StackName=RUNS_STACK)["Stacks"][0]
    parameters = {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}
    runs = deploy(cloudformation, "runs.yaml", "trials", **{**parameters, "Stage": "TRIAL", "AllowBenchmarks": "true"})
    with_trials = Aws(aws.endpoint, {}, {}, runs, {}).policies("FlowRole")
    trial = trial_settings(Settings(stage="TRIAL"), "0123456789abcdef").stage
    for action in ("CreateTable", "DeleteTable", "BatchWriteItem"):
        assert is_allowed(with_trials, f"dynamodb:{action}", f"{TABLE}HazardStoreMeta-{trial}")
        assert not is_allowed(with_trials, f"dynamodb:{action}", f"{TABLE}HazardStoreMeta-{STAGE}-BENCH-89abcdef")
    assert not is_allowed(with_trials, "dynamodb:DeleteTable", f"{TABLE}HazardStoreMeta-TRIAL")


def test_a_prefect_server_that_asks_for_nothing_needs_no_secret(aws: Aws) -> None:
    """The stack as the guide deploys it first: with the parameters that have no default."""
    cloudformation = aws.client("cloudformation")
    stack = cloudformation.describe_stacks(StackName=RUNS_STACK)["Stacks"][0]
    given = {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}
    named = ("Image", "VpcId", "SubnetIds", "SourcesBucket", "SourcesPrefix", "PrefectApiUrl")
    runs = deploy(cloudformation, "runs.yaml", "open", Stage="OPEN", **{name: given[name] for name in named})
    policies = Aws(aws.endpoint, {}, {}, runs, {}).policies("ExecutionRole")
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:hazard-store/OPEN/prefect-a1B2c3"
    assert not is_allowed(policies, "secretsmanager:GetSecretValue", secret)
    ecs = aws.client("ecs")
    definition = ecs.describe_task_definition(taskDefinition=runs["PrefectWorkerTask"])["taskDefinition"]
    assert not [one for one in definition["containerDefinitions"][0].get("secrets", []) if one]
    (service,) = ecs.describe_services(cluster="hazard-store-OPEN", services=[runs["PrefectWorker"]])["services"]
    assert service["desiredCount"] == 0


@pytest.mark.parametrize("role", ["WorkerRole", "FlowRole"])
def test_sources_are_read_under_their_prefix_and_never_written(aws: Aws, role: str) -> None:
    """Enforced by moto's S3 itself, with the role's own temporary credentials."""
    s3 = aws.client("s3")
    for key in (f"{PREFIX}calc_1.hdf5", "openquake-2/calc_1.hdf5", "secret.txt"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    arn = aws.outputs[f"{role}Arn"]
    issued = aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    mine = aws.client(
        "s3",
        aws_access_key_id=issued["AccessKeyId"],
        aws_secret_access_key=issued["SecretAccessKey"],
        aws_session_token=issued["SessionToken"],
    )
    with enable_iam_authentication():
        assert mine.get_object(Bucket=BUCKET, Key=f"{PREFIX}calc_1.hdf5", Range="bytes=0-0")["Body"].read() == b"x"
        refused = [
            lambda: mine.get_object(Bucket=BUCKET, Key="openquake-2/calc_1.hdf5"),
            lambda: mine.get_object(Bucket=BUCKET, Key="secret.txt"),
            lambda: mine.put_object(Bucket=BUCKET, Key=f"{PREFIX}calc_1.hdf5", Body=b"y"),
            lambda: mine.delete_object(Bucket=BUCKET, Key=f"{PREFIX}calc_1.hdf5"),
            lambda: mine.delete_bucket(Bucket=BUCKET),
        ]
        for request in refused:
            with pytest.raises(ClientError, match="AccessDenied"):
                request()
    policies = aws.policies(role)
    bucket = f"arn:aws:s3:::{BUCKET}"
    assert is_allowed(policies, "s3:ListBucket", bucket, s3__prefix=PREFIX)
    assert not is_allowed(policies, "s3:ListBucket", bucket)
    assert not is_allowed(policies, "s3:ListBucket", bucket, s3__prefix="openquake-2/")
    assert not is_allowed(policies, "s3:ListBucket", "arn:aws:s3:::other", s3__prefix=PREFIX)


def test_a_flow_starts_its_own_dask_clusters_and_nothing_else(aws: Aws) -> None:
    policies = aws.policies("FlowRole")
    mine = f"{ECS}task-definition/dask-{aws.outputs['DaskName']}1a2b3c-worker:7"
    others = ["dask-1a2b-worker:1", f"dask-hazard-store-{STAGE}-2_1a-worker:1", f"hazard-store-{STAGE}_flow:1", "web:3"]
    assert is_allowed(policies, "ecs:RegisterTaskDefinition", mine)
    assert is_allowed(policies, "ecs:RunTask", mine, ecs__cluster=CLUSTER)
    assert not is_allowed(policies, "ecs:RunTask", mine, ecs__cluster=f"{CLUSTER}-2")
    assert not is_allowed(policies, "ecs:RunTask", mine)
    for name in others:
        other = f"{ECS}task-definition/{name}"
        assert not is_allowed(policies, "ecs:RunTask", other, ecs__cluster=CLUSTER)
        assert not is_allowed(policies, "ecs:RegisterTaskDefinition", other)
    for passed in ("WorkerRoleArn", "ExecutionRoleArn"):
        assert is_allowed(policies, "iam:PassRole", aws.outputs[passed], **TO_ECS)
        assert not is_allowed(policies, "iam:PassRole", aws.outputs[passed], iam__PassedToService="ec2.amazonaws.com")
    for kept in (aws.outputs["FlowRoleArn"], aws.outputs["PrefectWorkerRoleArn"], f"arn:aws:iam::{ACCOUNT}:role/Admin"):
        assert not is_allowed(policies, "iam:PassRole", kept, **TO_ECS)

    task = f"{ECS}task/hazard-store-{STAGE}/0123"
    of_dask = {"aws__ResourceTag/createdBy": "dask-cloudprovider"}
    assert is_allowed(policies, "ecs:StopTask", task, **of_dask)
    assert not is_allowed(policies, "ecs:StopTask", task)
    assert not is_allowed(policies, "ecs:StopTask", f"{ECS}task/other/0123", **of_dask)
    assert is_allowed(policies, "ecs:TagResource", task, ecs__CreateAction="RunTask")
    assert not is_allowed(policies, "ecs:TagResource", task)
    for action in ("iam:CreateRole", "iam:AttachRolePolicy", "ec2:CreateSecurityGroup", "ecs:CreateCluster"):
        assert not is_allowed(policies, action, "*")


def test_the_prefect_worker_starts_flow_runs_and_nothing_else(aws: Aws) -> None:
    policies = aws.policies("PrefectWorkerRole")
    mine = f"{ECS}task-definition/{aws.outputs['FlowFamily']}:3"
    assert is_allowed(policies, "ecs:RunTask", mine, ecs__cluster=CLUSTER)
    assert not is_allowed(policies, "ecs:RunTask", f"{ECS}task-definition/web:3", ecs__cluster=CLUSTER)
    assert not is_allowed(policies, "ecs:RunTask", mine, ecs__cluster=f"{ECS}cluster/other")
    assert is_allowed(policies, "iam:PassRole", aws.outputs["FlowRoleArn"], **TO_ECS)
    assert not is_allowed(policies, "iam:PassRole", aws.outputs["WorkerRoleArn"], **TO_ECS)
    assert not [a for a in WRITES + READS if is_allowed(policies, a, f"{TABLE}HazardStoreMeta-{STAGE}")]
    assert not is_allowed(policies, "s3:GetObject", f"arn:aws:s3:::{BUCKET}/{PREFIX}calc_1.hdf5")


def test_containers_start_with_the_image_the_log_and_the_secret_alone(aws: Aws) -> None:
    policies = aws.policies("ExecutionRole")
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:hazard-store/{STAGE}/prefect"
    assert is_allowed(policies, "secretsmanager:GetSecretValue", f"{secret}-a1B2c3")
    assert not is_allowed(policies, "secretsmanager:GetSecretValue", f"{secret}-other-a1B2c3")
    repository = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/"
    assert is_allowed(policies, "ecr:BatchGetImage", repository + aws.image["Repository"])
    assert not is_allowed(policies, "ecr:BatchGetImage", f"{repository}other")
    assert not is_allowed(policies, "ecr:PutImage", repository + aws.image["Repository"])
    logs = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:"
    assert is_allowed(policies, "logs:PutLogEvents", f"{logs}{aws.outputs['DaskLogGroup']}:log-stream:x")
    assert not is_allowed(policies, "logs:PutLogEvents", f"{logs}/other:log-stream:x")


POOL = "test-aws-runs"


@pytest.fixture(scope="module")
def flow_run(aws: Aws, prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowRun]:
    """A run of `store-hazard`, deployed from `prefect.yaml` to the stack's pool, that its ECS worker has started."""
    home = tmp_path_factory.mktemp("ecs-worker")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in aws.variables.items():
            environment.setenv(name, value)
        # What a worker must not hand on to its runs, which are elsewhere.
        environment.setenv("PREFECT_HOME", str(home))
        environment.setenv("HAZARD_STORE_ENDPOINT", "http://localhost:1")
        queue = "PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_NAME"
        environment.setenv(queue, aws.outputs["TaskEventsQueue"])
        template = work_pool.filled(json.loads(work_pool.TEMPLATE.read_text()), aws.outputs)
        assert work_pool.put_work_pool(POOL, template)
        prefect("deploy", "--name", "store-hazard", "--pool", POOL)
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("store_hazard/store-hazard")
            parameters = {"source": f"s3://{BUCKET}/{PREFIX}calc_1.hdf5", "haz_sol_id": "A", "cluster": "fargate"}
            made = client.create_flow_run_from_deployment(
                deployment.id,
                parameters=parameters,
                job_variables={"env": {"HAZARD_STORE_FARGATE_VCPU": "1"}},
            )
            prefect("worker", "start", "--pool", POOL, "--type", "ecs", "--run-once", "--prefetch-seconds", "60")
            yield client.read_flow_run(made.id)
            client.delete_deployment(deployment.id)
            client.delete_work_pool(POOL)


def prefect(*arguments: str) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(240)
def test_the_ecs_worker_starts_a_flow_run_as_the_stack_says(aws: Aws, flow_run: FlowRun) -> None:
    assert flow_run.infrastructure_pid is not None
    cluster, _, arn = flow_run.infrastructure_pid.partition("::")
    assert cluster == CLUSTER
    ecs = aws.client("ecs")
    (task,) = ecs.describe_tasks(cluster=CLUSTER, tasks=[arn], include=["TAGS"])["tasks"]
    definition = ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])["taskDefinition"]
    assert (definition["family"], definition["revision"]) == (aws.outputs["FlowFamily"], 1)
    assert definition["executionRoleArn"] == aws.outputs["ExecutionRoleArn"]
    assert definition["taskRoleArn"] == task["overrides"]["taskRoleArn"] == aws.outputs["FlowRoleArn"]
    assert (definition["cpu"], definition["memory"], definition["networkMode"]) == ("512", "2048", "awsvpc")
    (container,) = definition["containerDefinitions"]
    assert (container["image"], container["stopTimeout"]) == (IMAGE, STOP_TIMEOUT_SECS)
    assert definition["ephemeralStorage"] == {"sizeInGiB": 21}
    assert container["logConfiguration"]["options"]["awslogs-group"] == aws.outputs["FlowLogGroup"]

    (override,) = task["overrides"]["containerOverrides"]
    assert override["command"] == ["prefect", "flow-run", "execute"]
    environment = {pair["name"]: pair["value"] for pair in override["environment"]}
    assert environment["HAZARD_STORE_STAGE"] == STAGE
    assert environment["HAZARD_STORE_REGION"] == environment["AWS_DEFAULT_REGION"] == REGION
    assert environment["PREFECT_API_URL"] == "http://10.0.0.5:4200/api"
    assert environment["PREFECT_HOME"] == "/home/hazard/.prefect"
    assert environment["PREFECT__FLOW_RUN_ID"] == str(flow_run.id)
    # What a run sets for itself stands beside what the pool says of its cluster.
    assert (environment["HAZARD_STORE_FARGATE_VCPU"], environment["HAZARD_STORE_FARGATE_WORKERS"]) == ("1", "2-8")
    assert FargateSettings.from_environment(environ=environment).size.memory_mib == 2048
    assert not [name for name in environment if "KEY" in name or "ENDPOINT" in name]
    # https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskOverride.html
    assert len(json.dumps(task["overrides"])) < 8192
    assert {"key": "project", "value": "hazard-store"} in task["tags"]
    assert task["launchType"] == "FARGATE"
    (interface,) = [a for a in task["attachments"] if a["type"] == "ElasticNetworkInterface"]
    details = {detail["name"]: detail["value"] for detail in interface["details"]}
    assert details["subnetId"] in aws.outputs["SubnetIds"].split(",")
    (eni,) = aws.client("ec2").describe_network_interfaces(NetworkInterfaceIds=[details["networkInterfaceId"]])[
        "NetworkInterfaces"
    ]
    assert [group["GroupId"] for group in eni["Groups"]] == [aws.outputs["FlowSecurityGroup"]]


def test_what_the_worker_sent_is_what_its_role_may(aws: Aws, flow_run: FlowRun) -> None:
    policies = aws.policies("PrefectWorkerRole")
    definition = f"{ECS}task-definition/{aws.outputs['FlowFamily']}:1"
    assert is_allowed(policies, "ecs:RegisterTaskDefinition", definition)
    assert is_allowed(policies, "ecs:RunTask", definition, ecs__cluster=CLUSTER)
    assert is_allowed(policies, "ecs:TagResource", f"{ECS}task/hazard-store-{STAGE}/x", ecs__CreateAction="RunTask")


def entry(command: click.Command) -> Any:
    return lambda args: sys.exit(run(command, command.name or "", args))


def test_the_command_makes_the_pool_once_and_then_renews_it(
    on_aws: Aws, prefect_server: PrefectServer, cli: RunCli
) -> None:
    command = entry(work_pool.command)
    printed = cli("--stack", RUNS_STACK, "--dry-run", entry=command).json
    assert printed["variables"]["properties"]["cluster"]["default"] == CLUSTER
    assert cli("--stack", RUNS_STACK, entry=command).out == f"work pool {WORK_POOL} made: {IMAGE}\n"
    with get_client(sync_client=True) as client:
        assert client.read_work_pool(WORK_POOL).base_job_template == printed
        client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=base_job_template()))
        assert cli("--stack", RUNS_STACK, entry=command).out == f"work pool {WORK_POOL} brought up to date: {IMAGE}\n"
        assert client.read_work_pool(WORK_POOL).base_job_template == printed
        client.delete_work_pool(WORK_POOL)


@pytest.mark.parametrize(
    ("variables", "arguments", "line"),
    [
        ({"AWS_DEFAULT_REGION": None}, ["--stack", "x"], "no AWS region: set AWS_DEFAULT_REGION, or give --region"),
        ({}, ["--stack", "nowhere"], "there is no stack nowhere in us-east-1: deploy it first"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, ["--stack", "x"], "AWS credentials are missing"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, ["--stack", "x"], "no answer from CloudFormation in us-east-1: "),
        (
            {"AWS_ENDPOINT_URL": "localhost"},
            ["--stack", "x"],
            "CloudFormation in us-east-1 refused: Invalid endpoint: localhost",
        ),
        ({"AWS_PROFILE": "nobody"}, ["--stack", "x"], "The config profile (nobody) could not be found"),
        ({}, [], "Missing option '--stack'"),
    ],
)
def test_a_bad_set_up_of_the_pool_is_one_line(
    on_aws: Aws,
    cli: RunCli,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str | None],
    arguments: list[str],
    line: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    assert cli(*arguments, entry=entry(work_pool.command)).error.startswith(line)


def test_a_role_that_may_not_look_at_the_stack_is_told_so(
    on_aws: Aws, cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = on_aws.client("sts").assume_role(RoleArn=on_aws.outputs["WorkerRoleArn"], RoleSessionName="test")
    for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"):
        variable = "AWS_" + re.sub(r"(?<!^)([A-Z])", r"_\1", name).upper()
        monkeypatch.setenv(variable, issued["Credentials"][name])
    with enable_iam_authentication():
        error = cli("--stack", RUNS_STACK, entry=entry(work_pool.command)).error
    assert error.startswith(f"AWS credentials are missing or may not describe stack {RUNS_STACK} in us-east-1: ")


def test_a_pool_of_another_type_is_left_alone(on_aws: Aws, prefect_server: PrefectServer, cli: RunCli) -> None:
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="test-aws-process", type="process"))
        with pytest.raises(UsageError, match="work pool test-aws-process is of type process"):
            work_pool.put_work_pool("test-aws-process", {})
        client.delete_work_pool("test-aws-process")


def test_blocks_are_registered_from_the_environment(
    on_aws: Aws, prefect_server: PrefectServer, cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAZARD_STORE_SOURCE_PREFIXES", on_aws.outputs["SourcesUri"])
    done = cli(entry=entry(blocks.command))
    assert done.out.splitlines() == [
        "aws-credentials/hazard-store: us-east-1, no keys",
        f"s3-bucket/hazard-store-sources: s3://{BUCKET}/openquake",
    ]
    credentials = AwsCredentials.load(blocks.CREDENTIALS_BLOCK)
    assert credentials.aws_secret_access_key is None
    assert cli("--store-keys", entry=entry(blocks.command)).code == 0
    bucket = S3Bucket.load(blocks.BUCKET_BLOCK)
    assert bucket.credentials.aws_access_key_id == "testing"
    on_aws.client("s3").put_object(Bucket=BUCKET, Key=f"{PREFIX}block.txt", Body=b"by block")
    assert bucket.read_path("block.txt") == b"by block"


@pytest.mark.parametrize(
    ("variables", "arguments", "line"),
    [
        ({"AWS_DEFAULT_REGION": None}, [], "no AWS region: set HAZARD_STORE_REGION or AWS_DEFAULT_REGION"),
        ({"HAZARD_STORE_SOURCE_PREFIXES": None}, [], "HAZARD_STORE_SOURCE_PREFIXES must name one s3://BUCKET/PREFIX/"),
        ({"AWS_ACCESS_KEY_ID": None}, ["--store-keys"], "--store-keys stores AWS_ACCESS_KEY_ID and"),
        ({"PREFECT_API_URL": "http://127.0.0.1:9/api"}, [], "no Prefect server answers at http://127.0.0.1:9/api"),
        ({"PREFECT_API_URL": None}, [], "no Prefect server: set PREFECT_API_URL"),
    ],
)
def test_a_bad_set_up_of_blocks_is_one_line(
    on_aws: Aws,
    cli: RunCli,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str | None],
    arguments: list[str],
    line: str,
) -> None:
    monkeypatch.setenv("HAZARD_STORE_SOURCE_PREFIXES", on_aws.outputs["SourcesUri"])
    for name, value in variables.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    # Prefect has read the environment at its import.
    with temporary_settings({PREFECT_API_URL: os.environ.get("PREFECT_API_URL")}):
        assert cli(*arguments, entry=entry(blocks.command)).error.startswith(line)
