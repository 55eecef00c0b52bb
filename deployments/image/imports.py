"""The image's health: all that a flow, a scheduler and a worker import is there and goes together.

``hazard-store --version && python imports.py`` ends with 0, or with the traceback of the first import that failed.
"""

import importlib
import pkgutil
import shutil
import sys

OURS = ("hazard_store", "tasks", "flows")

# What is imported only when it is needed: by the pool's worker, by `--cluster`, and for sources on S3.
OTHERS = (
    "dask_cloudprovider.aws",
    "distributed.cli.dask_scheduler",
    "distributed.cli.dask_worker",
    "prefect_aws.workers",
    "prefect_dask",
    "s3fs",
)

PROGRAMS = ("dask", "dask-scheduler", "dask-worker", "hazard-store", "prefect")


def modules_of(package: str) -> list[str]:
    """List a package and every module in it, of whatever depth, but the programs among them."""
    found = importlib.import_module(package)
    inside = pkgutil.walk_packages(found.__path__, f"{package}.")
    return [package, *(module.name for module in inside if not module.name.endswith(".__main__"))]


def main() -> int:
    """Import it all; return the exit code."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        print(f"error: not on the path: {', '.join(missing)}", file=sys.stderr)
        return 1
    names = [name for package in OURS for name in modules_of(package)] + list(OTHERS)
    for name in names:
        importlib.import_module(name)
    print(f"{len(names)} modules imported with Python {sys.version.split()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
