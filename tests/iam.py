"""Whether IAM policies allow a request: AWS's evaluation logic, as far as identity policies without boundaries go.

An explicit Deny wins, then an Allow, and nothing else is allowed:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
moto evaluates resources for S3 alone, hence this one for the other services.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

Document = Mapping[str, Any]

_OPERATORS = {
    "StringEquals": lambda pattern, value: pattern == value,
    "StringLike": lambda pattern, value: _matches(pattern, value),
    # IAM treats the two alike: both take wildcards.
    "ArnEquals": lambda pattern, value: _matches(pattern, value),
    "ArnLike": lambda pattern, value: _matches(pattern, value),
}


def is_allowed(documents: Iterable[Document], action: str, resource: str, **context: str) -> bool:
    """Whether a principal with these policies may do it.

    Parameters
    ----------
    context : str
        Keys of the request, with ``__`` for the colon: ``ecs__cluster="arn:..."``. A condition on a key that is not
        there does not hold.
    """
    keys = {name.replace("__", ":"): value for name, value in context.items()}
    effects = {
        statement["Effect"]
        for document in documents
        for statement in _list(document["Statement"])
        if _applies(statement, action, resource, keys)
    }
    assert effects <= {"Allow", "Deny"}
    return effects == {"Allow"}


def _applies(statement: Document, action: str, resource: str, keys: Mapping[str, str]) -> bool:
    known = {"Sid", "Effect", "Action", "Resource", "Condition"}
    assert statement.keys() <= known, f"this evaluator knows no {statement.keys() - known}"
    return (
        any(_matches(pattern.lower(), action.lower()) for pattern in _list(statement["Action"]))
        and any(_matches(pattern, resource) for pattern in _list(statement["Resource"]))
        and all(
            any(key in keys and _OPERATORS[operator](pattern, keys[key]) for pattern in _list(wanted))
            for operator, conditions in statement.get("Condition", {}).items()
            for key, wanted in conditions.items()
        )
    )


def _matches(pattern: str, value: str) -> bool:
    """``*`` is any text, ``?`` any character, and all else itself."""
    parts = (".*" if part == "*" else "." if part == "?" else re.escape(part) for part in re.split(r"([*?])", pattern))
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
