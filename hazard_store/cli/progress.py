"""How a running store shows: a bar on a terminal, a few lines in a log, or the words of the team's old script."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

from hazard_store.cli.output import note, on_terminal, put
from hazard_store.wording import count, duration

if TYPE_CHECKING:
    from hazard_store.jobs import ChunkOutcome, StorePlan
    from hazard_store.names import Part

# A log of a run of hours stays short, and nobody wonders whether it still goes on.
LINE_EVERY_SECS = 5.0

Clock = Callable[[], float]


class StoreProgress:
    """Keeps the counts of a run; what it shows is up to those derived from it.

    Attributes
    ----------
    plan : StorePlan or None
        None until the first item may have been written.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self.plan: StorePlan | None = None
        self.items = 0
        self.wcu = 0.0
        self.failed = 0
        self._started = 0.0
        self._left: dict[Part, int] = {}
        self._failed_items = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def wait(self, holder: str) -> None:
        """Say why nothing happens for some seconds."""
        note_wait(holder)

    def begin(self, plan: StorePlan) -> None:
        """Take the plan; the clock starts."""
        self.plan = plan
        self._started = self._clock()
        for chunk in plan.steps():
            part: Part = "meta" if chunk is None else chunk.part
            self._left[part] = self._left.get(part, 0) + 1
        self.show_start(plan)

    def advance(self, outcome: ChunkOutcome) -> None:
        """Count a chunk that ended."""
        if outcome.error is None:
            self.items += outcome.metrics.items if outcome.part != "meta" else 0
            self.wcu += outcome.metrics.wcu
        else:
            self.failed += 1
            todo = self.plan.todo if self.plan is not None else ()
            self._failed_items += sum(chunk.items for chunk in todo if chunk.id == outcome.chunk_id)
        self._left[outcome.part] = self._left.get(outcome.part, 1) - 1
        self.show_chunk(outcome, part_ended=self._left[outcome.part] <= 0)

    @property
    def seconds(self) -> float:
        """Seconds since the plan stood."""
        return self._clock() - self._started

    @property
    def items_per_sec(self) -> float:
        """Items acknowledged over the time so far."""
        return self.items / self.seconds if self.seconds > 0 else 0.0

    def describe(self) -> str:
        """Where the run is, in one line."""
        total = self.plan.items_todo if self.plan is not None else 0
        text = f"{self.items:,} of {total:,} items, {self.items_per_sec:,.0f} items/s, {self.wcu:,.0f} WCU"
        left = total - self.items - self._failed_items
        if self.items and left > 0:
            text += f", {duration(left / self.items_per_sec)} left"
        return text + (f", {count(self.failed, 'chunk')} failed" if self.failed else "")

    def show_start(self, plan: StorePlan) -> None:
        """Show that writing starts."""

    def show_chunk(self, outcome: ChunkOutcome, *, part_ended: bool) -> None:
        """Show a chunk that ended, which may be the last of its part."""

    def close(self) -> None:
        """End the show."""


class ProgressLines(StoreProgress):
    """Plain lines: one every few seconds, one a part, one a failed chunk."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self._last_line = 0.0

    def show_start(self, plan: StorePlan) -> None:
        """Say what is to be done."""
        note(start_line(plan))
        self._last_line = self._clock()

    def show_chunk(self, outcome: ChunkOutcome, *, part_ended: bool) -> None:
        """Say it where it matters."""
        if outcome.error is not None:
            note(f"{outcome.chunk_id} failed: {outcome.error}")
        if part_ended and outcome.part != "meta":
            note(f"{outcome.part} ended: {self.describe()}")
        elif self._clock() - self._last_line >= LINE_EVERY_SECS:
            note(self.describe())
        else:
            return
        self._last_line = self._clock()


class ProgressBar(StoreProgress):
    """A bar on the terminal: items, items/s, WCU, time left, failed chunks."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self._bar: Any = None
        self._task: Any = None

    def show_start(self, plan: StorePlan) -> None:
        """Draw the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        note(start_line(plan))
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(plan.job.haz_sol_id, total=max(1, plan.items_todo), state=self.describe())
        self._bar.start()

    def show_chunk(self, outcome: ChunkOutcome, *, part_ended: bool) -> None:
        """Move the bar."""
        if self._bar is not None:
            if outcome.error is not None:
                self._bar.console.print(f"{outcome.chunk_id} failed: {outcome.error}", markup=False, highlight=False)
            self._bar.update(self._task, completed=self.items, state=self.describe())

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class ScriptLines(StoreProgress):
    """What the team's ``store_hazard -v`` printed: ``Begin saving meta`` / ``Done saving meta, took 0.56 secs``.

    Parameters
    ----------
    skipped : dict of part to str
        Parts that are not to be stored, and why.
    """

    TITLES: ClassVar[dict[Part, str]] = {"meta": "meta", "stats": "stats (V2)", "realisations": "realisations (V2)"}

    def __init__(self, skipped: dict[Part, str], clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self._skipped = skipped
        self._coming: list[Part] = []
        self._part_started = 0.0
        self._failed_before = 0

    def show_start(self, plan: StorePlan) -> None:
        """The meta comes first."""
        self._coming = list(self.TITLES)
        self._begin_next()

    def show_chunk(self, outcome: ChunkOutcome, *, part_ended: bool) -> None:
        """End a part with its last chunk, and begin the next."""
        if part_ended:
            took = self._clock() - self._part_started
            verb = "Failed" if self.failed > self._failed_before else "Done"
            put(f"{verb} saving {self.TITLES[outcome.part]}, took {took:.2f} secs")
            self._begin_next()

    def _begin_next(self) -> None:
        """Begin the next part that has something left to store, and say why others have not."""
        self._part_started = self._clock()
        self._failed_before = self.failed
        while self._coming:
            part = self._coming.pop(0)
            if self._left.get(part, 0) > 0:
                put(f"Begin saving {self.TITLES[part]}")
                return
            put(f"Skipping {self.TITLES[part]}: {self._skipped.get(part, 'stored before')}")


def note_wait(holder: str) -> None:
    """Say that it has to be seen whether another run, with its workers, has ended."""
    note(f"waiting to see whether run {holder}, which was storing or deleting this calculation, has ended")


class CountLines:
    """Shows how far a verify or a delete is: a line every few seconds.

    Parameters
    ----------
    verb : str
        What happens to the items, such as ``compared``.
    """

    def __init__(self, verb: str, clock: Clock = time.monotonic) -> None:
        self._verb = verb
        self._clock = clock
        self._last_line = clock()

    def __call__(self, done: int, total: int) -> None:
        """Take the items so far, and all there are (0 if that is not known)."""
        if self._clock() - self._last_line >= LINE_EVERY_SECS:
            note(f"{done:,}{f' of {total:,}' if total else ''} items {self._verb}")
            self._last_line = self._clock()


def start_line(plan: StorePlan) -> str:
    """Say what a run is about to do."""
    skipped = len(plan.chunks) - len(plan.todo)
    return (
        f"storing {plan.job.source} as {plan.job.haz_sol_id} ({plan.job.layout.name}): "
        f"{count(len(plan.todo), 'chunk')} with {count(plan.items_todo, 'item')}"
        + (f", {count(skipped, 'chunk')} stored before" if skipped else "")
    )


def choose_progress() -> StoreProgress:
    """A bar where stderr is a terminal, lines elsewhere."""
    return ProgressBar() if on_terminal(sys.stderr) else ProgressLines()
