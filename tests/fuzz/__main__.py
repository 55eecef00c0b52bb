"""``python -m tests.fuzz``: mutate, judge, and print what came of each kind. Ends with 1 if there is a defect."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from tests.fuzz.judging import Outcome, Verdict
from tests.fuzz.mutations import KINDS, kind_of
from tests.fuzz.processes import run

OUTCOMES: tuple[Outcome, ...] = ("read right", "refused", "refused by the trial", "defect")
SHOWN_DEFECTS = 100


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--mutations", type=int, default=20_000, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first, to see one again")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--secs", type=float, default=float("inf"), help="start no more after that time")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, default=Path(".state/fuzz"), help="folder for mutations with defects")
    options = parser.parse_args(args)

    began = time.monotonic()
    counts: Counter[tuple[str, Outcome]] = Counter()
    defects: list[str] = []

    def tell(number: int, verdict: Verdict) -> None:
        kind = kind_of(options.seed, number)
        counts[kind, verdict.outcome] += 1
        if verdict.outcome == "defect":
            defects.append(f"--seed {options.seed} --first {number} --mutations 1 ({kind}): {verdict.text}")

    numbers = range(options.first, options.first + options.mutations)
    in_time: Iterator[int] = takewhile(lambda _: time.monotonic() - began < options.secs, iter(numbers))
    run(options.seed, in_time, options.processes, tell, options.keep)
    print(table(counts))
    print(f"{counts.total():,} mutations of seed {options.seed} in {time.monotonic() - began:.0f} s")
    for line in defects[:SHOWN_DEFECTS]:
        print(f"defect: {line}")
    if defects:
        print(f"{len(defects)} defects; the files are in {options.keep}")
    return 1 if defects else 0


def table(counts: Counter[tuple[str, Outcome]]) -> str:
    """Write one line a kind, and one for all."""
    lines = [f"{'kind':<32}{'mutations':>10}" + "".join(f"{outcome:>22}" for outcome in OUTCOMES)]
    for kind in KINDS:
        of_kind = [counts[kind, outcome] for outcome in OUTCOMES]
        lines.append(f"{kind:<32}{sum(of_kind):>10,}" + "".join(f"{number:>22,}" for number in of_kind))
    totals = [sum(counts[kind, outcome] for kind in KINDS) for outcome in OUTCOMES]
    lines.append(f"{'all':<32}{sum(totals):>10,}" + "".join(f"{number:>22,}" for number in totals))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
