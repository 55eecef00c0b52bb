"""Create the virtual environment of an OpenQuake engine in the user's cache, and print the path of its python.

    python tests/conformance/engine_venv.py             # the engine the committed files were made with
    python tests/conformance/engine_venv.py 3.16.7

The engine (AGPL) is a tool here, never a dependency: it lives outside this repository. It is installed without its own
requirements, because some of them (GDAL) do not install everywhere and hazard calculations do without.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from hazard_store.local.npm import cache_dir

DEFAULT_VERSION = "3.26.2"

COMMON = (
    "psutil",
    "requests",
    "toml",
    "docutils~=0.19.0",
    "pyproj<3.8",
    "matplotlib",
    "networkx",
    "pyshp",
    "setuptools<70",
)

NUMBA_60 = (
    "numpy==1.26.4|scipy==1.12.0|pandas==2.1.4|h5py==3.10.0|django<5|pyzmq<26.1|h3>=4|decorator==5.1.1|pillow<11"
    "|numba==0.60.0|alpha_shapes|geopandas<1|fiona<1.10.2|shapely==2.0.4"
)

REQUIREMENTS = (
    # (from this version on, minor versions of Python that fit, requirements); the newest first
    (
        (3, 26),
        (11, 12, 13),
        "numpy<2.3|scipy|pandas<3|h5py|django<5|pyzmq~=26.0.3|h3>=4.4|decorator~=5.1.1|pillow|numba~=0.61.2"
        "|alpha_shapes|geopandas|fiona|shapely",
    ),
    (
        (3, 18),
        (11, 10),
        NUMBA_60,
    ),
    (
        # 3.17 calls inspect.getargspec, which Python 3.11 has no more
        (3, 17),
        (10,),
        NUMBA_60,
    ),
    (
        (3, 15),
        (10,),
        "numpy==1.23.5|scipy==1.10.1|pandas==1.5.3|h5py==3.8.0|django<4|pyzmq<26|decorator==4.4.2|pillow<11"
        "|numba==0.56.4|geopandas<1|fiona<1.10|shapely==1.8.5.post1",
    ),
)


def fitting_python(minors: tuple[int, ...]) -> str:
    """Return a python on this machine whose minor version is among those."""
    if sys.version_info[1] in minors:
        return sys.executable
    for minor in minors:
        found = shutil.which(f"python3.{minor}")
        if found:
            return found
    raise SystemExit(f"this engine needs Python {' or '.join(f'3.{minor}' for minor in minors)} on the PATH")


def engine_python(version: str) -> Path:
    """Return the python of that engine's virtual environment, made if it is not there yet."""
    folder = cache_dir() / f"openquake-{version}"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if complete.exists():
        return python
    minor_version = tuple(int(number) for number in version.split(".")[:2])
    recipes = [recipe for recipe in REQUIREMENTS if minor_version >= recipe[0]]
    if not recipes:
        raise SystemExit(f"no recipe for engine {version}: they begin with 3.15")
    _, minors, requirements = recipes[0]
    say = sys.stderr
    subprocess.run([fitting_python(minors), "-m", "venv", "--clear", str(folder)], check=True, stdout=say)
    install = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *COMMON, *requirements.split("|")], check=True, stdout=say)
    subprocess.run([*install, "--no-deps", f"openquake-engine=={version}"], check=True, stdout=say)
    subprocess.run([str(python), "-c", "import openquake.calculators.base"], check=True, stdout=say)
    complete.touch()
    return python


if __name__ == "__main__":
    print(engine_python(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_VERSION))
