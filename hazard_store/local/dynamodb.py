"""DynamoDB Local as a context manager.

::

    with DynamoDbLocal.start() as database:
        os.environ["HAZARD_STORE_ENDPOINT"] = database.endpoint

It takes any credentials but wants some (`LOCAL_CREDENTIALS`), keeps one set of tables for all of them, and listens on
every address of the machine: Amazon gave it no option to choose one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from hazard_store.errors import LocalServiceError
from hazard_store.local.fetch import ensure_dynamodb_local
from hazard_store.local.process import HOST, LocalProcess, LocalService, free_port, http_status, is_port_free
from hazard_store.local.tools import find_java

LOCAL_CREDENTIALS: Mapping[str, str] = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
"""Environment that any client of the local database needs. Letters and digits only: it refuses others."""

_START_TIMEOUT_SECS = 60
_LOST_PORT = "java.net.BindException"


class DynamoDbLocal(LocalService):
    """A running DynamoDB Local; `DynamoDbLocal.start` makes one."""

    def __init__(self, process: LocalProcess, port: int, scratch_dir: Path | None) -> None:
        super().__init__(process, port)
        self._scratch_dir = scratch_dir

    @classmethod
    def start(
        cls,
        port: int = 0,
        data_dir: Path | None = None,
        *,
        max_heap_mb: int = 1024,
        detached: bool = False,
        work_dir: Path | None = None,
        timeout_secs: float = _START_TIMEOUT_SECS,
    ) -> Self:
        """Start it, fetching it first where it is not there, and return when it answers.

        Parameters
        ----------
        port : int
            0 takes any free one.
        data_dir : Path, optional
            Keeps the tables there; without it they live in memory.
        max_heap_mb : int
            Bound of the Java heap; tables in memory need it.
        detached : bool
            Leave it running when this process ends.
        work_dir : Path, optional
            Takes its log and temporary files; by default a temporary folder that goes when it is stopped.
        timeout_secs : float
            How long to wait for its first answer.

        Raises
        ------
        LocalServiceError
            Java or DynamoDB Local cannot be had, the port is taken, or it does not answer in time.
        """
        home = ensure_dynamodb_local()
        java = find_java()
        if port and not is_port_free(port):
            raise LocalServiceError(
                f"port {port} is taken: stop what listens there, or choose another for the database"
            )
        port = port or free_port()
        if data_dir is None:
            storage = ["-inMemory"]
        else:
            data_dir = data_dir.absolute()
            data_dir.mkdir(parents=True, exist_ok=True)
            storage = ["-dbPath", str(data_dir)]
        # A folder of our own goes when it is stopped, but stays when it did not start: it holds the log.
        scratch_dir = None
        if work_dir is None:
            work_dir = scratch_dir = Path(tempfile.mkdtemp(prefix="dynamodb-local-"))
        work_dir = work_dir.absolute()
        work_dir.mkdir(parents=True, exist_ok=True)
        command = [
            str(java),
            f"-Xmx{max_heap_mb}m",
            "-XX:-UsePerfData",
            # It leaves a native library among the temporary files of each run.
            f"-Djava.io.tmpdir={work_dir}",
            f"-Djava.library.path={home / 'DynamoDBLocal_lib'}",
            "-jar",
            str(home / "DynamoDBLocal.jar"),
            *("-port", str(port), "-sharedDb", "-disableTelemetry", *storage),
        ]
        log_path = work_dir / "log.txt"
        process = LocalProcess("DynamoDB Local", command, log_path=log_path, cwd=work_dir, detached=detached)
        process.wait_until(lambda: _answers(port, process), timeout_secs=timeout_secs)
        return cls(process, port, scratch_dir)

    @property
    def endpoint(self) -> str:
        """The URL for `HAZARD_STORE_ENDPOINT`."""
        return f"http://{HOST}:{self.port}"

    def stop(self) -> None:
        """End it; a second call does nothing."""
        super().stop()
        if self._scratch_dir is not None:
            shutil.rmtree(self._scratch_dir, ignore_errors=True)


def _answers(port: int, process: LocalProcess) -> bool:
    # It stays running, deaf, when another process took the port after it was found free: only its log tells.
    if _LOST_PORT in process.log_path.read_text(errors="replace"):
        raise LocalServiceError(f"another process took port {port} while DynamoDB Local was starting: try again")
    # Any HTTP status is an answer: to a GET without a request in it, it is 400.
    return http_status(port, "/") is not None
