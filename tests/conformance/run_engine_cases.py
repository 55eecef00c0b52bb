"""Run the test calculations that an OpenQuake engine ships with, and write down its answers about each.

Executed by the python of an engine's virtual environment (see `engine_venv.py`), in one process for all jobs:

    ENGINE_PYTHON tests/conformance/run_engine_cases.py OUT
    ENGINE_PYTHON tests/conformance/run_engine_cases.py OUT --match 'logictree/case_(13|56)/' --root FOLDER

leaves `OUT/<engine version>/<case>.hdf5` and `<case>.json` for `compare.py`. A job that fails, takes too long or makes
too large a file is reported and left out; realisations are kept (`individual_rlzs`) unless the job file says.
"""

from __future__ import annotations

import argparse
import gc
import logging
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import FrameType

from engine_answers import run_job, start_engine, write_answers

FOLDERS = ("logictree", "classical", "disagg", "event_based")
EVENT_BASED_CASES = "event_based/case_(1|2|7|13|17|26)/"
"""Those whose curves come from ground-motion fields, of which a few are enough."""

REPEAT_TIMEOUT_SECS = 5.0
"""The engine may swallow the first interruption, so it is repeated."""


class JobTimeoutError(Exception):
    """A job took longer than it may."""


def packaged_calculations() -> Path:
    """Return the folder of test calculations in the engine's own package."""
    from openquake import qa_tests_data

    return Path(qa_tests_data.__path__[0])


def find_packaged_jobs(root: Path) -> list[Path]:
    """Return the job files of the engine's test calculations that have hazard curves, logic trees first."""
    jobs = []
    for folder in FOLDERS:
        for job in sorted((root / folder).rglob("job*.ini")):
            if folder != "event_based" or re.match(EVENT_BASED_CASES, job.relative_to(root).as_posix()):
                jobs.append(job)
    return jobs


def case_name(job: Path, root: Path) -> str:
    """Name a case after its folders and its job file: `classical/case_07/job.ini` is `classical_case_07`."""
    parts = list(job.relative_to(root).parent.parts)
    if job.stem != "job":
        parts.append(job.stem)
    return "_".join(parts)


def run_case(job: Path, hdf5: Path, timeout_secs: int, max_bytes: int) -> str:
    """Run one job, keep its datastore and the engine's answers, and return a line about it."""

    def give_up(_signal: int, _frame: FrameType | None) -> None:
        raise JobTimeoutError(f"longer than {timeout_secs} s")

    parameters = {} if "individual_rlzs" in job.read_text() else {"individual_rlzs": "true"}
    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, timeout_secs, REPEAT_TIMEOUT_SECS)
    try:
        datastore = run_job(job, **parameters)
        size = datastore.stat().st_size
        if size > max_bytes:
            return f"too large: {size // 2**20} MB"
        told = write_answers(datastore, hdf5.with_suffix(".json"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    shutil.copyfile(datastore, hdf5)
    return f"curves {told['curves']}" + (f", {'; '.join(told['notes'])}" if told["notes"] else "")


def main() -> None:
    """Run the jobs one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--root", type=Path, help="folder of jobs; default: the engine's packaged test calculations")
    parser.add_argument("--match", default="", help="regular expression that a job's path under the root must match")
    parser.add_argument("--timeout-secs", type=int, default=60)
    parser.add_argument("--max-mb", type=int, default=30)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)

    with tempfile.TemporaryDirectory(prefix="hazard-store-") as folder:
        version = start_engine(Path(folder))
        out = arguments.out.resolve() / version
        out.mkdir(parents=True, exist_ok=True)
        root = (arguments.root or packaged_calculations()).resolve()
        jobs = sorted(root.rglob("job*.ini")) if arguments.root else find_packaged_jobs(root)
        jobs = [job for job in jobs if re.search(arguments.match, job.relative_to(root).as_posix())]
        print(f"engine {version}: {len(jobs)} jobs", flush=True)
        kept = 0
        for job in jobs:
            name = case_name(job, root)
            started = time.monotonic()
            try:
                line = run_case(job, out / f"{name}.hdf5", arguments.timeout_secs, arguments.max_mb * 2**20)
                kept += (out / f"{name}.hdf5").exists()
            except (Exception, SystemExit) as exc:  # the engine raises anything, and the next job must still run
                line = f"failed: {type(exc).__name__}: {str(exc).splitlines()[0][:120] if str(exc) else ''}"
                (out / f"{name}.json").unlink(missing_ok=True)
            print(f"{name} ({time.monotonic() - started:.1f} s): {line}", flush=True)
            gc.collect()
            for leftover in Path(folder, "oqdata").glob("calc_*.hdf5"):
                if leftover.stat().st_size > arguments.max_mb * 2**20:
                    leftover.unlink()
        print(f"kept {kept} of {len(jobs)} in {version}", flush=True)


if __name__ == "__main__":
    main()
