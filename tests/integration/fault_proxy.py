"""A proxy in front of DynamoDB Local that answers some requests itself, as the service does when it fails.

A test gives it a rule: a function that sees the operation and the body of every request, and answers None to let it
pass, or the (status, code) of the error to give instead; `message` is what that error says.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Rule = Callable[[str, bytes], tuple[int, str] | None]


class FaultProxy(ThreadingHTTPServer):
    """Forwards to `target` what its rule lets pass; counts requests by operation."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target)
        self.rule: Rule = lambda operation, body: None
        self.message = "injected"
        self.requests: list[str] = []
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that were killed; whatever else goes wrong is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave in one packet. As two, the second waits for the acknowledgement of the first, which the client
    # holds back for 40 ms.
    wbufsize = -1
    server: FaultProxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        operation = self.headers["X-Amz-Target"].rpartition(".")[2]
        with self.server.lock:
            self.server.requests.append(operation)
            fault = self.server.rule(operation, body)
        if fault is None:
            self._forward(body)
        else:
            status, code = fault
            answer = json.dumps(
                {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": self.server.message}
            ).encode()
            self._answer(status, answer, {"Content-Type": "application/x-amz-json-1.0"})

    def _forward(self, body: bytes) -> None:
        target = self.server.target
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
        try:
            connection.request("POST", "/", body, dict(self.headers))
            answer = connection.getresponse()
            self._answer(answer.status, answer.read(), dict(answer.getheaders()))
        finally:
            connection.close()

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "server", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """A proxy that runs while the block does."""
    with FaultProxy(target) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
