"""Measure everything that docs/performance.md claims, in one run on one machine: ``make bench`` (ten minutes).

Each section of ``benchmarks/sections`` writes ``benchmarks/results/{name}.json`` and its table in docs/performance.md.
``--repeat 3`` gives medians of three, ``--full`` adds four workers, the team's 11,500 sites, and ten million items.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.flow_runs import prefect_server
from benchmarks.options import Options
from benchmarks.sections import bare_loop, limits, other_writers, prediction, s3, scale, team_table, worker_cost

SECTIONS: tuple[ModuleType, ...] = (worker_cost, other_writers, bare_loop, team_table, limits, prediction, s3, scale)
RESULTS = Path(__file__).parent / "results"
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"


def write_section(document: Path, name: str, title: str, text: str) -> None:
    """Put a section's text between its marks in the document, or at the document's end."""
    begin, end = f"<!-- {name}: written by make bench -->", f"<!-- end of {name} -->"
    block = f"{begin}\n## {title}\n\n{text}\n{end}"
    old = document.read_text()
    pattern = re.compile(re.escape(begin) + r".*?" + re.escape(end), re.DOTALL)
    new = pattern.sub(lambda _: block, old) if pattern.search(old) else f"{old.rstrip()}\n\n{block}\n"
    document.write_text(new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=1, help="medians of so many")
    parser.add_argument("--full", action="store_true", help="an hour")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=[section.NAME for section in SECTIONS], metavar="SECTION")
    parser.add_argument("--scratch", type=Path, help="keep the synthetic calculations there for another time")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hazard-store-bench-") as temporary:
        scratch = arguments.scratch or Path(temporary)
        scratch.mkdir(exist_ok=True)
        options = Options(arguments.repeat, arguments.workers, arguments.full, scratch)
        with prefect_server(Path(temporary)):
            for section in SECTIONS:
                if not arguments.only or section.NAME in arguments.only:
                    _run(section, options)


def _run(section: ModuleType, options: Options) -> None:
    load, started = os.getloadavg()[0], time.monotonic()
    print(f"{section.TITLE} ...", flush=True)
    result: dict[str, Any] = section.measure(options)
    text = section.to_markdown(result)
    print(f"\n{text}\n\n({time.monotonic() - started:.0f} s)\n", flush=True)
    run = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "repeat": options.repeat,
        "load_before": round(load, 1),
        "seconds": round(time.monotonic() - started),
    }
    (RESULTS / f"{section.NAME}.json").write_text(json.dumps({"run": run, "result": result}, indent=2) + "\n")
    write_section(DOCUMENT, section.NAME, section.TITLE, text)
