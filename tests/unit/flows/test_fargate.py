"""What `--cluster fargate` reads from the environment, and what it refuses before anything starts."""

from __future__ import annotations

import sys

import pytest
from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, temporary_settings

from flows.clusters import cluster_from_name
from flows.fargate import FargateSettings, container_variables
from hazard_store.errors import UsageError
from hazard_store.fargate import SIZES

ARN = "arn:aws:ecs:ap-southeast-2:123456789012:cluster/hazard-store-TEST"
ECS = "DASK_CLOUDPROVIDER__ECS__"
POOL = {
    "HAZARD_STORE_STAGE": "TEST",
    "HAZARD_STORE_REGION": "ap-southeast-2",
    f"{ECS}CLUSTER_ARN": ARN,
    f"{ECS}IMAGE": "123456789012.dkr.ecr.ap-southeast-2.amazonaws.com/hazard-store:0.1.0",
    f"{ECS}EXECUTION_ROLE_ARN": "arn:aws:iam::123456789012:role/execution",
    f"{ECS}TASK_ROLE_ARN": "arn:aws:iam::123456789012:role/worker",
    f"{ECS}CLOUDWATCH_LOGS_GROUP": "/hazard-store/TEST/dask",
    f"{ECS}VPC": "vpc-1",
    f"{ECS}SUBNETS": "['subnet-1', 'subnet-2']",
    f"{ECS}SECURITY_GROUPS": "['sg-1']",
}
SERVER = "http://10.0.0.5:4200/api"


def test_the_pools_environment_is_all_that_is_needed() -> None:
    settings = FargateSettings.from_environment(environ=POOL)
    assert (settings.region, settings.subnets, settings.security_groups) == (
        "ap-southeast-2",
        ("subnet-1", "subnet-2"),
        ("sg-1",),
    )
    assert (settings.size, settings.min_workers, settings.max_workers, settings.public_ip) == (SIZES[0], 2, 8, True)
    assert settings.name_of("0a") == "hazard-store-TEST_0a"


def test_what_may_be_chosen() -> None:
    chosen = {
        "HAZARD_STORE_FARGATE_VCPU": "1",
        "HAZARD_STORE_FARGATE_WORKERS": "3-20",
        f"{ECS}FARGATE_USE_PRIVATE_IP": "True",
        f"{ECS}SUBNETS": "subnet-1",
    }
    settings = FargateSettings.from_environment(environ=POOL | chosen)
    assert (settings.size.vcpu, settings.size.memory_mib, settings.size.cpu_units) == (1.0, 2048, 1024)
    assert (settings.min_workers, settings.max_workers, settings.public_ip) == (3, 20, False)
    assert settings.subnets == ("subnet-1",)
    fixed = FargateSettings.from_environment(5, POOL | chosen)
    assert (fixed.min_workers, fixed.max_workers) == (5, 5)


@pytest.mark.parametrize("name", [name for name in POOL if name.startswith(ECS)])
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_missing_is_named(name: str, value: str | None) -> None:
    environ = {key: text for key, text in POOL.items() if key != name} | ({} if value is None else {name: value})
    with pytest.raises(UsageError, match=rf"set {name}\. Flow runs of the work pool"):
        FargateSettings.from_environment(environ=environ)


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({f"{ECS}CLUSTER_ARN": "my-cluster"}, "CLUSTER_ARN must be arn:aws:ecs:REGION:ACCOUNT:cluster/NAME"),
        ({f"{ECS}IMAGE": "daskdev/dask:latest"}, f"set {ECS}IMAGE"),
        ({f"{ECS}SUBNETS": "{1: 2}"}, "SUBNETS must be a list such as"),
        (
            {"HAZARD_STORE_FARGATE_VCPU": "4"},
            "HAZARD_STORE_FARGATE_VCPU must be 0.25, 0.5, 1 .vCPU of a worker., not '4'",
        ),
        (
            {"HAZARD_STORE_FARGATE_WORKERS": "8-2"},
            "HAZARD_STORE_FARGATE_WORKERS must be a number of workers or a range",
        ),
        ({"HAZARD_STORE_FARGATE_WORKERS": "0"}, "HAZARD_STORE_FARGATE_WORKERS must be a number of workers or a range"),
        (
            {"HAZARD_STORE_FARGATE_SECRETS": "PREFECT_API_KEY=pnu_123"},
            "must be NAME=ARN of a secret .*, never the secret",
        ),
    ],
)
def test_what_means_nothing_is_refused(variables: dict[str, str], line: str) -> None:
    with pytest.raises(UsageError, match=line) as refused:
        FargateSettings.from_environment(environ=POOL | variables)
    assert "pnu_123" not in str(refused.value)


def test_containers_get_what_they_need_and_no_secret() -> None:
    environ = POOL | {
        "HAZARD_STORE_FARGATE_VCPU": "1",
        "HAZARD_STORE_SOURCE_PREFIXES": "s3://bucket/openquake/",
        "AWS_ENDPOINT_URL_S3": "https://s3.example",
        "AWS_ENDPOINT_URL": "https://user:password@example",
        "AWS_SECRET_ACCESS_KEY": "planted",
        "PREFECT_API_KEY": "planted",
        "HOME": "/root",
    }
    with temporary_settings({PREFECT_API_URL: SERVER}):
        variables = container_variables({"distributed.scheduler.worker-saturation": 1.0}, environ)
    assert variables == {
        "AWS_DEFAULT_REGION": "ap-southeast-2",
        "AWS_ENDPOINT_URL_S3": "https://s3.example",
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0",
        "HAZARD_STORE_REGION": "ap-southeast-2",
        "HAZARD_STORE_SOURCE_PREFIXES": "s3://bucket/openquake/",
        "HAZARD_STORE_STAGE": "TEST",
        "PREFECT_API_URL": SERVER,
    }


def test_a_server_that_asks_for_a_key_needs_a_secret_for_the_workers() -> None:
    secret = "arn:aws:secretsmanager:ap-southeast-2:123456789012:secret:prefect-a1B2c3"
    with temporary_settings({PREFECT_API_URL: SERVER, PREFECT_API_KEY: "planted"}):
        with pytest.raises(UsageError, match="set HAZARD_STORE_FARGATE_SECRETS=PREFECT_API_KEY=ARN") as refused:
            container_variables({}, POOL)
        environ = POOL | {"HAZARD_STORE_FARGATE_SECRETS": f"PREFECT_API_KEY={secret}"}
        assert "planted" not in str(container_variables({}, environ))
        assert FargateSettings.from_environment(environ=environ).secrets == {"PREFECT_API_KEY": secret}
    assert "planted" not in str(refused.value)


def test_there_must_be_a_server_that_workers_reach() -> None:
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(UsageError, match="set PREFECT_API_URL"):
        container_variables({}, POOL)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flows.fargate_cluster", None)
    with pytest.raises(UsageError, match=r"pip install 'hazard-store\[prefect,aws\]'"):
        cluster_from_name("fargate", None)
