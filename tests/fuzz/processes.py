"""Worker processes that judge mutation after mutation, under limits, and may crash or hang without stopping the run."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hazard_store.errors import SourceError
from hazard_store.oq.trial import require_readable
from hazard_store.sources.content import content_of
from tests.fuzz.judging import OpensOf, Verdict, judge
from tests.fuzz.limits import Limits
from tests.fuzz.mutations import make_outside, mutate

# A sound file is read in some 20 ms. Whatever takes this long is given to the trial, which has the last word.
MUTATION_SECS = 5.0
# For a machine that is busy: what the trial finds readable must be read within.
READABLE_SECS = 60.0

# To load the library on a busy machine.
START_SECS = 300.0

Tell = Callable[[int, Verdict], None]


def run(seed: int, numbers: Iterator[int], n_workers: int, tell: Tell, keep: Path) -> None:
    """Judge mutations in `n_workers` processes.

    Parameters
    ----------
    tell : callable
        Gets the number and the verdict of each, from any thread, one at a time.
    keep : Path
        Where mutations with defects are saved.
    """
    lock = threading.Lock()

    def supervise() -> None:
        with _Worker(seed) as worker:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                verdict = worker.judge(number)
                with lock:
                    if verdict.outcome == "defect":
                        worker.save(number, keep)
                    tell(number, verdict)

    with ThreadPoolExecutor(n_workers) as pool:
        for ended in [pool.submit(supervise) for _ in range(n_workers)]:
            ended.result()


class _Worker:
    """A process that is started anew when it crashes or hangs."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self._process: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self._folder)

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._seed, self._folder), daemon=True)
        self._process.start()
        theirs.close()
        if ours.poll(START_SECS) and ours.recv() == "ready":
            return ours
        raise RuntimeError("a worker process of the fuzzer does not start")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = self._pipe = None

    def judge(self, number: int) -> Verdict:
        """Judge a mutation; where HDF5 loops, crashes or wastes memory, the trial before every store must refuse it."""
        verdict = self._ask(number, MUTATION_SECS)
        if verdict is not None and not verdict.of_memory:
            return verdict
        given = [path for path in (self._folder / "mutation").iterdir() if path.stem == "calc_1"]
        try:
            with closing(content_of(max(given, key=lambda path: path.suffix == ".zip"))) as content:
                require_readable(content)
        except SourceError as exc:
            return Verdict("refused by the trial", str(exc))
        if verdict is not None:
            return verdict
        return self._ask(number, READABLE_SECS) or Verdict("defect", "a hang or a crash that the trial did not see")

    def _ask(self, number: int, patience_secs: float) -> Verdict | None:
        if self._pipe is None:
            self._pipe = self._start()
        self._pipe.send(number)
        try:
            if self._pipe.poll(patience_secs):
                verdict: Verdict = self._pipe.recv()
                return verdict
        except EOFError:
            pass  # the process crashed
        self._stop()
        return None

    def save(self, number: int, keep: Path) -> None:
        keep.mkdir(parents=True, exist_ok=True)
        for path in (self._folder / "mutation").iterdir():
            shutil.copy(path, keep / f"{self._seed}-{number}-{path.name}")


def _serve(pipe: Connection, seed: int, folder: Path) -> None:
    home = folder / "mutation"
    elsewhere = folder / "outside"
    shutil.rmtree(elsewhere, ignore_errors=True)
    elsewhere.mkdir()
    outside = make_outside(elsewhere)
    opens = OpensOf(outside.file)
    tempfile.tempdir = str(home)
    os.chdir(elsewhere)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send("ready")
    while True:
        number = pipe.recv()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        mutation = mutate(seed, number, home, outside)
        pipe.send(judge(mutation, outside, opens, Limits()))
