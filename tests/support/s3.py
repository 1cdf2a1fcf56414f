"""A store that speaks S3 (moto's) in a process of its own, with a bucket: to be killed, and started again empty."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.support.ports import free_port

BUCKET = "pictures"
_SERVER = """
import sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
app = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", int(sys.argv[1]), app, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


class S3Server:
    """It believes any key; `start` takes the same port again."""

    def __init__(self) -> None:
        self._port = free_port()
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def settings(self) -> dict[str, Any]:
        """Of the section `image_store`."""
        key = {"access_key_id": "key", "secret_access_key": "secret"}
        return {"kind": "s3", "bucket": BUCKET, "endpoint_url": self.url, "region": "us-east-1", **key}

    def start(self) -> None:
        """Returns once it listens, and has the bucket."""
        command = [sys.executable, "-c", _SERVER, str(self._port)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self._process = subprocess.Popen(command, **pipes)
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())
        self.make_bucket(BUCKET)

    def make_bucket(self, name: str) -> None:
        httpx.put(f"{self.url}/{name}").raise_for_status()

    def kill(self) -> None:
        assert self._process is not None
        with self._process as process:
            process.send_signal(signal.SIGKILL)


@contextmanager
def running_s3() -> Iterator[S3Server]:
    server = S3Server()
    server.start()
    try:
        yield server
    finally:
        server.kill()
