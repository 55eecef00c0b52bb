"""The templates as they stand: linted, and the same tables and names as the library's models."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.decode import decode

from deployments.aws.job_template import TEMPLATE, base_job_template, environment, filled
from hazard_store.settings import Settings
from hazard_store.storage.models import MODELS, StoreModel

CHECKOUT = Path(__file__).resolve().parents[3]
AWS = CHECKOUT / "deployments" / "aws"
TEMPLATES = sorted(AWS.glob("*.yaml"))

STAGE = "PROD"


def cfn_lint(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sysconfig.get_path("scripts")) / "cfn-lint"
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def template(name: str) -> dict[str, Any]:
    """A template as a plain document: `!Sub x` is `{"Fn::Sub": "x"}`."""
    document, problems = decode(str(AWS / name))
    assert not problems
    return json.loads(json.dumps(document))


def properties_of_tables() -> dict[str, dict[str, Any]]:
    tables = {}
    for resource in template("tables.yaml")["Resources"].values():
        assert resource["Type"] == "AWS::DynamoDB::Table"
        assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain"
        properties = resource["Properties"]
        tables[properties["TableName"]["Fn::Sub"].replace("${Stage}", STAGE)] = properties
    return tables


def test_there_are_templates() -> None:
    assert [path.name for path in TEMPLATES] == ["image.yaml", "runs.yaml", "tables.yaml"]


def test_cfn_lint_finds_nothing() -> None:
    # I: informational rules as well, which compare the resources of policies with those that AWS's actions know.
    done = cfn_lint("--include-checks", "I", "--", *map(str, TEMPLATES))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_linter_sees_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    text = (AWS / "tables.yaml").read_text()
    wrong.write_text(text.replace("KeyType: HASH", "KeyType: HUSH", 1))
    done = cfn_lint("--", str(wrong))
    assert done.returncode != 0
    assert "HUSH" in done.stdout


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_table_of_the_template_is_that_of_the_model(model: type[StoreModel]) -> None:
    properties = properties_of_tables()[f"{model.table_base}-{STAGE}"]
    keys = {a.attr_name: a for a in model.get_attributes().values() if a.is_hash_key or a.is_range_key}
    assert {d["AttributeName"]: d["AttributeType"] for d in properties["AttributeDefinitions"]} == {
        name: attribute.attr_type for name, attribute in keys.items()
    }
    assert {k["AttributeName"]: k["KeyType"] for k in properties["KeySchema"]} == {
        name: "HASH" if attribute.is_hash_key else "RANGE" for name, attribute in keys.items()
    }
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["SSESpecification"] == {"SSEEnabled": True}
    assert properties["DeletionProtectionEnabled"] == {"Ref": "DeletionProtection"}
    holds_curves = {"poes", "values"} & model.get_attributes().keys()
    assert ("WarmThroughput" in properties) == bool(holds_curves)


def test_the_template_has_no_other_table() -> None:
    assert set(properties_of_tables()) == {f"{model.table_base}-{STAGE}" for model in MODELS}


def test_stages_of_the_templates_are_stages_of_the_library() -> None:
    pattern = template("tables.yaml")["Parameters"]["Stage"]
    assert pattern == template("runs.yaml")["Parameters"]["Stage"] | {"Description": pattern["Description"]}
    # An underscore ends the stage in the names of task definitions: no stage may have one.
    assert "_" not in pattern["AllowedPattern"]
    assert Settings(stage=pattern["Default"]).stage == STAGE


def test_the_cluster_runs_on_fargate_and_spot() -> None:
    resources = template("runs.yaml")["Resources"]
    assert resources["Cluster"]["Properties"]["CapacityProviders"] == ["FARGATE", "FARGATE_SPOT"]
    spot = {"CapacityProvider": "FARGATE_SPOT", "Weight": 1}
    assert resources["PrefectWorker"]["Properties"]["CapacityProviderStrategy"] == [spot]


def test_the_job_template_is_prefects_own_with_our_defaults() -> None:
    assert json.loads(TEMPLATE.read_text()) == base_job_template(), "run `python -m deployments.aws.job_template`"


def test_a_stack_has_every_output_that_the_work_pool_needs() -> None:
    outputs = {name: f"the-{name}" for name in template("runs.yaml")["Outputs"]}
    used = json.dumps(filled(base_job_template(), outputs)["variables"])
    assert {name for name in outputs if f"the-{name}" not in used} == {"PrefectWorkerRoleArn", "TaskEventsQueue"} | {
        "DaskName",
        "WorkPool",
    }
    assert environment(outputs)["HAZARD_STORE_STAGE"] == "the-Stage"


def test_the_pool_of_the_stack_is_that_of_the_deployments() -> None:
    pools = {d["work_pool"]["name"] for d in yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]}
    assert pools == {template("runs.yaml")["Parameters"]["WorkPool"]["Default"]}


def test_nothing_secret_is_in_what_is_committed() -> None:
    for path in [*AWS.iterdir(), CHECKOUT / "deployments" / "Dockerfile"]:
        if path.is_file():
            assert "AKIA" not in path.read_text()
    secret = template("runs.yaml")["Resources"]["PrefectSecret"]["Properties"]
    assert not {"SecretString", "GenerateSecretString"} & secret.keys()
    assert not os.access(AWS / ".env", os.F_OK)
