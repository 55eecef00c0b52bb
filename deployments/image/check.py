"""The Dockerfile's steps, run in order in a bare Debian that debootstrap makes: ``make image-check``, no Docker needed.

It needs root, and debootstrap (``apt-get install debootstrap``); some 1 GB under the temporary folder, and about
three minutes, most of them for the packages. It ends with the image's own health check, as the image's own user.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployments.image.dockerfile import Instruction, context_files, read_dockerfile
from hazard_store.errors import LocalServiceError, UsageError

CHECKOUT = Path(__file__).resolve().parents[2]
DOCKERFILE = CHECKOUT / "deployments" / "Dockerfile"

SUITE_OF_DEBIAN = {"12": "bookworm", "13": "trixie"}

# How this machine reaches its package registries, which its own containers would have to be told as well.
_MACHINE_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf")
_MACHINE_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_MACHINE_VARIABLES = ("PIP_", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

# Not where the package ca-certificates writes.
_CERTIFICATES_INSIDE = "/etc/machine-certificates.crt"

_DOCKER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class BareImage:
    """A folder with a Debian in it, and the state that a Dockerfile's instructions change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {"PATH": _DOCKER_PATH}
        self.workdir = "/"
        self.user = "0:0"

    def do(self, instruction: Instruction) -> None:
        """Carry out one instruction.

        Raises
        ------
        UsageError
            It is one that this check does not know: it would not have been checked.
        LocalServiceError
            It failed.
        """
        match instruction.keyword:
            case "FROM":
                self._bootstrap(instruction.argument)
            case "ENV":
                for setting in instruction.words:
                    name, _, value = setting.partition("=")
                    self.environment[name] = value.replace("$PATH", self.environment["PATH"])
            case "WORKDIR":
                self.workdir = instruction.argument
                self._inside(self.workdir).mkdir(parents=True, exist_ok=True)
            case "USER":
                self.user = instruction.argument
            case "COPY":
                self._copy(instruction)
            case "RUN":
                self.run(["/bin/sh", "-c", instruction.argument])
            case "HEALTHCHECK" | "CMD":
                self.run(instruction.command)
            case other:
                raise UsageError(f"{DOCKERFILE.name} has {other}, which this check cannot carry out")

    def run(self, command: Sequence[str]) -> None:
        """Run a command in the image, as its user, where its working directory is."""
        inside = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', self.workdir, *command]
        machine = {name: value for name, value in os.environ.items() if name.startswith(_MACHINE_VARIABLES)}
        machine.pop("PIP_CONFIG_FILE", None)
        if self._inside(_CERTIFICATES_INSIDE).exists():
            machine["PIP_CERT"] = _CERTIFICATES_INSIDE
        # Containers have a /proc. In a mount namespace of the command's own it goes with the command.
        mounted = 'mount -t proc proc "$0/proc" && exec chroot "$@"'
        chroot = ["unshare", "--mount", "/bin/sh", "-c", mounted, str(self.root), f"--userspec={self.user}"]
        _run([*chroot, str(self.root), *inside], {**machine, **self.environment})

    def _bootstrap(self, base: str) -> None:
        name, _, tag = base.partition(":")
        suite = SUITE_OF_DEBIAN.get(tag.partition(".")[0])
        if name != "debian" or suite is None:
            raise UsageError(f"debootstrap cannot make {base}")
        _run(["debootstrap", "--variant=minbase", suite, str(self.root)], dict(os.environ))
        places = {file: file for file in _MACHINE_FILES}
        places[os.environ.get("PIP_CONFIG_FILE", "/etc/pip.conf")] = "/etc/pip.conf"
        places[os.environ.get("PIP_CERT", _MACHINE_CERTIFICATES)] = _CERTIFICATES_INSIDE
        for outside, inside in places.items():
            if Path(outside).is_file():
                shutil.copyfile(outside, self._inside(inside))

    def _copy(self, instruction: Instruction) -> None:
        *sources, destination = instruction.words
        target = self._inside(os.path.join(self.workdir, destination))
        mode = instruction.flags.get("chmod")
        for source in sources:
            place = CHECKOUT / source
            # Docker copies what is in a folder, not the folder; a file goes into a target that ends with a slash.
            base = place if place.is_dir() else place.parent
            for file in context_files(CHECKOUT, source):
                copied = target / file.relative_to(base)
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, copied)
                if mode is not None:
                    copied.chmod(int(mode, 8))

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False)
    except OSError as exc:
        raise LocalServiceError(
            f"{command[0]} cannot be run ({exc}): apt-get install debootstrap, and be root"
        ) from exc
    if done.returncode:
        raise LocalServiceError(f"exit code {done.returncode}")


def main() -> int:
    """Carry out all instructions; return the exit code."""
    instructions = read_dockerfile(DOCKERFILE)
    with tempfile.TemporaryDirectory(prefix="hazard-store-image-") as folder:
        image = BareImage(Path(folder) / "root")
        for number, instruction in enumerate(instructions, start=1):
            print(f"--- {number}/{len(instructions)} {instruction.keyword} {instruction.argument}", flush=True)
            started = time.monotonic()
            try:
                image.do(instruction)
            except (LocalServiceError, UsageError) as exc:
                print(f"error: step {number} ({instruction.keyword}): {exc}", file=sys.stderr)
                return 2
            print(f"    {time.monotonic() - started:.1f} s", flush=True)
        size = sum(file.lstat().st_size for file in image.root.rglob("*") if not file.is_symlink())
        print(f"every step of {DOCKERFILE.name} passed; {size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
