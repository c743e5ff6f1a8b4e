"""S3 on a free port: moto, which comes with the developers' tools, and where it is installed
versitygw, a server that people use.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError

START_TIMEOUT_S = 60.0
"""moto loads descriptions of all of S3 first."""

ACCESS_KEY_ID = "lattice"
SECRET_ACCESS_KEY = "lattice-secret"
BUCKET = "blobs"


@dataclass(frozen=True)
class S3Server:
    url: str

    @property
    def config(self) -> dict[str, str]:
        """What an operator writes to use it."""
        return {
            "backend": "s3",
            "endpoint_url": self.url,
            "bucket": BUCKET,
            "access_key_id": ACCESS_KEY_ID,
            "secret_access_key": SECRET_ACCESS_KEY,
        }


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Everything in memory, and one bucket; whoever asks may do everything."""
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, port, {}) as server:
        request = urllib.request.Request(f"{server.url}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        yield server


@contextmanager
def versity_server() -> Iterator[S3Server]:
    """Everything in files; ``go install github.com/versity/versitygw/cmd/versitygw@latest``."""
    binary = shutil.which("versitygw")
    assert binary is not None
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / BUCKET).mkdir()
        port = _free_port()
        command = [binary, "--port", f"127.0.0.1:{port}", "posix", root]
        keys = {"ROOT_ACCESS_KEY": ACCESS_KEY_ID, "ROOT_SECRET_KEY": SECRET_ACCESS_KEY}
        with _running(command, port, keys) as server:
            yield server


@contextmanager
def _running(command: list[str], port: int, variables: dict[str, str]) -> Iterator[S3Server]:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **variables}
        )
        try:
            give_up = time.monotonic() + START_TIMEOUT_S
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > give_up:
                    output.seek(0)
                    raise RuntimeError(f"{command[0]} did not start: {output.read()[-2000:]!r}")
                time.sleep(0.02)
            yield S3Server(f"http://127.0.0.1:{port}")
        finally:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
    except HTTPError:
        return True
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
