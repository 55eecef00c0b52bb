"""The proxy in a process of its own, for tests and benchmarks."""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hazard_store.local.process import LocalProcess, free_port

ROOT = Path(__file__).parents[2]

_START_TIMEOUT_SECS = 30
_CONTROL_TIMEOUT_SECS = 30


class LimitedDynamoDb:
    """A running proxy.

    Attributes
    ----------
    endpoint : str
        For ``HAZARD_STORE_ENDPOINT``.
    pid : int
    """

    def __init__(self, endpoint: str, control: str, pid: int) -> None:
        self.endpoint = endpoint
        self.pid = pid
        self._control = control
        # Past any proxy of the environment.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def counts(self) -> dict[str, Any]:
        """What it did since it started or was reset."""
        counts: dict[str, Any] = self._call("/counts")
        return counts

    def set_faults(self, **faults: float | Mapping[str, Any]) -> None:
        """Replace the faults that are on: a rate, or the fields of ``faults.Setting``; none turns all off."""
        self._call("/faults", faults)

    def reset(self) -> None:
        """Count from nought again, with full buckets, no splits, and the same chances; faults that are on stay on."""
        self._call("/reset", {})

    def _call(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with self._opener.open(self._control + path, data, timeout=_CONTROL_TIMEOUT_SECS) as answer:
            return json.load(answer)


@contextmanager
def limited_dynamodb(target: str | None = None, **options: Any) -> Iterator[LimitedDynamoDb]:
    """Run the proxy while the block does.

    Parameters
    ----------
    target : str, optional
        URL of the database; without one, writes are acknowledged and nothing is stored.
    **options
        Those of the command line, with underscores: ``table_wcu=2_000, acknowledge=True, latency_ms=8``.

    Raises
    ------
    LocalServiceError
        It did not start.
    """
    options.setdefault("port", free_port())
    if target is None:
        options["acknowledge"] = True
    else:
        options["target"] = target
    with tempfile.TemporaryDirectory(prefix="limited-dynamodb-") as scratch:
        log_path = Path(scratch) / "log.txt"
        command = [sys.executable, "-m", "benchmarks.limited_dynamodb", *_options_to_arguments(options)]
        process = LocalProcess("the capacity-limited DynamoDB", command, log_path=log_path, cwd=ROOT)
        try:
            process.wait_until(lambda: _addresses(log_path) is not None, timeout_secs=_START_TIMEOUT_SECS)
            endpoint, control = _addresses(log_path) or ("", "")
            yield LimitedDynamoDb(endpoint, control, process.pid)
        finally:
            process.stop()


def _addresses(log_path: Path) -> tuple[str, str] | None:
    lines = [line for line in log_path.read_text().splitlines(keepends=True) if line.startswith("http://")]
    return (lines[0].strip(), lines[1].strip()) if len(lines) > 1 and lines[1].endswith("\n") else None


def _options_to_arguments(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            yield flag
        elif value is not False and value is not None:
            for one in value if isinstance(value, list | tuple) else [value]:
                yield from (flag, str(one))
