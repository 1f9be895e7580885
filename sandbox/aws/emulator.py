"""The emulator's process: on loopback, on a free port, in an environment without the user's AWS.

It keeps its state in memory and ends with us. Whatever speaks AWS could stand in for it: it is
reached through `AWS_ENDPOINT_URL` alone.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import botocore.session
from boto3.session import Session

from sandbox.aws.errors import EmbeddedAwsError
from sandbox.aws.venvs import EMULATOR, Log, quiet, tool_python
from sandbox.processes import LEASH, ending, free_port

REGION = "eu-west-1"

# The emulator checks no signature; the secret only has to be there for one to be made.
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "embedded", "AWS_SECRET_ACCESS_KEY": "embedded"}

# It is up in a quarter of a second here; a loaded laptop is not ten times a hundred slower.
_READY_SECONDS = 30.0

# How soon its unasked end is noticed.
_LOOK_SECONDS = 0.5

# Somebody may take the free port between our look and the emulator's bind.
_ATTEMPTS = 3

_LOG_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class EmbeddedAws:
    """An emulator that answers: where it is, and clients for it.

    Attributes:
        endpoint: `http://127.0.0.1:<port>`, every service behind it.
        log_file: what the emulator prints; functions' output is in its CloudWatch Logs.
    """

    endpoint: str
    log_file: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find this AWS and no other, with any AWS SDK."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            **_CREDENTIALS,
            # Neither the user's profiles nor a cloud machine's role may be found instead.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    async def gone(self) -> None:
        """Wait for its end, and say so: whoever waits did not ask for it."""
        while self.process.poll() is None:  # noqa: ASYNC110 - a process has no event to wait for
            await asyncio.sleep(_LOOK_SECONDS)
        how = ending(self.process.returncode)
        raise EmbeddedAwsError(f"the embedded AWS {how}; see {self.log_file}")

    def client(self, service: str) -> Any:
        """A synchronous boto3 client, which threads may share."""
        # One session reads botocore's tables once, but must not make two clients at a time.
        with self._lock:
            return self._session.client(service, endpoint_url=self.endpoint)

    @cached_property
    def _session(self) -> Any:
        # A profile named in the user's environment would be looked for in files we do not read.
        session: Any = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
        session.set_config_variable("config_file", os.devnull)
        session.set_config_variable("credentials_file", os.devnull)
        return Session(
            aws_access_key_id=_CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=REGION,
            botocore_session=session,
        )


@asynccontextmanager
async def run_embedded_aws(home: Path, *, log: Log = quiet) -> AsyncGenerator[EmbeddedAws]:
    """Start the emulator, installed under `home` on first use; stop it on the way out.

    Raises:
        ToolError: it could not be installed.
        EmbeddedAwsError: it did not come up; the message names its log.
    """
    python = await tool_python(home, EMULATOR, log)
    log_file = _log_file(home)
    scratch = Path(tempfile.mkdtemp(prefix="zapgate-aws-"))
    try:
        process, port = await _start(python, scratch, log_file)
        try:
            endpoint = f"http://127.0.0.1:{port}"
            log(f"embedded AWS at {endpoint}, log in {log_file}")
            yield EmbeddedAws(endpoint, log_file, process)
        finally:
            # Not cancellable half-way: what was started here must not outlive us.
            await asyncio.shield(asyncio.to_thread(_stop, process))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _log_file(home: Path) -> Path:
    log_file = home.resolve() / "logs" / "embedded-aws.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    if log_file.exists() and log_file.stat().st_size > _LOG_BYTES:
        log_file.unlink()
    return log_file


async def _start(
    python: Path, scratch: Path, log_file: Path
) -> tuple[subprocess.Popen[bytes], int]:
    for _ in range(_ATTEMPTS):
        port = free_port()
        process = _spawn(python, scratch, log_file, port)
        try:
            if await _answers(process, port):
                return process, port
        except BaseException:
            _stop(process)
            raise
    raise EmbeddedAwsError(f"the embedded AWS ends as soon as it starts; see {log_file}")


def _spawn(python: Path, scratch: Path, log_file: Path, port: int) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        # It clears containers it takes for its own when it starts: keep it from the user's Docker.
        "DOCKER_HOST": f"unix://{scratch}/no-docker",
    }
    with log_file.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own file, in an environment we made
            [python, LEASH, str(os.getpid()), "SIGKILL", "ministack"],
            cwd=scratch,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for us: the planes still need their AWS while they stop. And a group of its
            # own lets us end the workers of its functions with it.
            start_new_session=True,
        )


async def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether it is ready; false if it ended by itself."""
    deadline = time.monotonic() + _READY_SECONDS
    while process.poll() is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > deadline:
                raise EmbeddedAwsError("the embedded AWS does not answer") from None
            await asyncio.sleep(0.02)
        else:
            writer.close()
            await writer.wait_closed()
            return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it and its functions' workers. Nothing in its memory is worth an orderly stop."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
