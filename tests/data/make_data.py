"""Make the real OpenQuake datastores of this folder, and the engine's own answers about them.

Run it with the python of an engine's virtual environment (the recipe is in `docs/`; the committed files are from
3.26.2):

    python tests/data/make_data.py                    # every case
    python tests/data/make_data.py custom_ids child   # some cases
    python tests/data/make_data.py --large OUT.hdf5   # 27 IMTs x 44 levels x 100 sites x 12 realisations
    python tests/data/make_data.py --out FOLDER       # elsewhere, .hdf5 and .json side by side; for other engines

For a case, `models/<case>/job.ini` becomes `<case>.hdf5` and `expected/<case>.json`. The models are copied to a
temporary folder first: a datastore remembers the paths of its inputs.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "conformance"))

from engine_answers import run_job, start_engine, write_answers  # noqa: E402

CASES = (
    "custom_ids",
    "bare_coordinates",
    "sampled_early_weights",
    "sampled_late_weights",
    "sampled_early_latin",
    "sampled_late_latin",
    "statistics_only",
    "realisations_only",
    "disaggregation",
    "event_based",
    "child",
    "preclassical",
    "colliding_sites",
)

PARENTS = {"child": "custom_ids"}
"""Case -> the case whose calculation it is started from (`oq engine --hc`)."""


def calculate(case: str, models: Path) -> Path:
    """Run the job of a case, after that of its parent if it has one, and return the path of the datastore."""
    parent = PARENTS.get(case)
    if parent is None:
        return run_job(models / case / "job.ini")
    parent_id = int(calculate(parent, models).stem.rpartition("_")[2])
    return run_job(models / case / "job.ini", hazard_calculation_id=parent_id)


def make(case: str, models: Path, hdf5: Path, expected: Path) -> None:
    """Write the datastore of a case to `hdf5` and the engine's answers to `expected`."""
    datastore = calculate(case, models)
    # while the datastore is still beside that of its parent, where the engine looks for it
    told = write_answers(datastore, expected)
    shutil.copyfile(datastore, hdf5)
    print(f"{case}: {hdf5.stat().st_size // 1024} KB, curves {told['curves']}, notes {told['notes']}", flush=True)


def main() -> None:
    """Parse the command line and make what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all of them by default")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the cases to this folder")
    parser.add_argument("--large", type=Path, metavar="OUT", help="write only the large datastore, to this path")
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - set(CASES)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")

    with tempfile.TemporaryDirectory(prefix="hazard-store-") as folder:
        work_dir = Path(folder)
        models = work_dir / "models"
        shutil.copytree(HERE / "models", models)
        print(f"engine {start_engine(work_dir)}", flush=True)
        if arguments.large:
            out = arguments.large.resolve()
            out.parent.mkdir(parents=True, exist_ok=True)
            make("large", models, out, out.with_suffix(".json"))
            return
        out = arguments.out.resolve() if arguments.out else HERE
        expected = out if arguments.out else out / "expected"
        expected.mkdir(parents=True, exist_ok=True)
        for case in arguments.cases or CASES:
            make(case, models, out / f"{case}.hdf5", expected / f"{case}.json")


if __name__ == "__main__":
    main()
