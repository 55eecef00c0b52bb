"""Running a command in this process, as its user would see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson
import pytest

from hazard_store.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)

    @property
    def error(self) -> str:
        """The one line that bad input gets: exit 2, nothing else on stderr."""
        assert self.code == 2, self
        assert self.err.startswith("error: "), self
        assert self.err.count("\n") == 1, self
        return self.err.removeprefix("error: ").rstrip("\n")


RunCli = Callable[..., Outcome]


def run_cli_with(capsys: pytest.CaptureFixture[str]) -> RunCli:
    def run(*args: object, entry: Callable[[Sequence[str]], NoReturn] = main) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            entry([str(arg) for arg in args])
        captured = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Outcome(code, captured.out, captured.err)

    return run
