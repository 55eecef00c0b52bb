"""The evaluator that the roles are tested with, against what AWS documents of its own."""

from __future__ import annotations

import pytest

from tests.iam import is_allowed

ALLOW = {"Statement": {"Effect": "Allow", "Action": "s3:Get*", "Resource": ["arn:aws:s3:::a/x?/*", "arn:aws:s3:::b"]}}
DENY = {"Statement": [{"Effect": "Deny", "Action": ["s3:*"], "Resource": "arn:aws:s3:::a/x1/secret*"}]}


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("s3:GetObject", "arn:aws:s3:::a/x1/key/with/slashes", True),
        ("S3:getobject", "arn:aws:s3:::b", True),
        ("s3:GetObject", "arn:aws:s3:::a/x12/key", False),
        ("s3:GetObject", "arn:aws:s3:::A/x1/key", False),
        ("s3:GetObject", "arn:aws:s3:::bb", False),
        ("s3:PutObject", "arn:aws:s3:::b", False),
        ("s3:GetObject", "arn:aws:s3:::a/x1/secret.txt", False),
    ],
)
def test_a_deny_wins_and_what_is_not_allowed_is_denied(action: str, resource: str, allowed: bool) -> None:
    assert is_allowed([ALLOW, DENY], action, resource) is allowed


def test_every_condition_must_hold_with_one_of_its_values() -> None:
    condition = {"StringEquals": {"a:b": ["1", "2"]}, "ArnEquals": {"c:d": "arn:x/*"}}
    document = {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}}
    assert is_allowed([document], "x:y", "z", a__b="2", c__d="arn:x/1")
    assert not is_allowed([document], "x:y", "z", a__b="3", c__d="arn:x/1")
    assert not is_allowed([document], "x:y", "z", a__b="1", c__d="arn:y/1")
    assert not is_allowed([document], "x:y", "z", a__b="1")


def test_what_it_does_not_know_is_an_error() -> None:
    with pytest.raises(AssertionError, match="NotAction"):
        is_allowed([{"Statement": {"Effect": "Allow", "NotAction": "*", "Action": "*", "Resource": "*"}}], "x:y", "z")
    unknown = {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": {"a:b": "true"}}}
    with pytest.raises(KeyError, match="Bool"):
        is_allowed([{"Statement": unknown}], "x:y", "z", a__b="true")
