"""Raw neonize as a figure holds it: a child process that connects, pairs and sends."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from sandbox.network import Network
from sandbox.processes import inherited
from sandbox.whatsapp.control_client import ControlClient

SCRIPT: Final = Path(__file__).with_name("raw_client.py")
PATIENCE: Final = 30.0
"""Seconds until something that was asked for counts as not done."""

Event = dict[str, Any]


class RawError(Exception):
    """The raw client ended, or did not do what it was told to."""


class Raw:
    """The process, when it was executed, and what it reported."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        begun: float,
        writer: asyncio.StreamWriter,
        log: Path,
    ) -> None:
        self.process = process
        self.begun = begun
        """Monotonic seconds, just before the exec."""
        self.events: list[Event] = []
        self._writer = writer
        self._log = log
        self._news = asyncio.Condition()

    async def listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            line = await reader.readline()
            event = msgspec.json.decode(line) if line else {"event": "gone"}
            async with self._news:
                self.events.append(event)
                self._news.notify_all()
            if not line:
                return

    async def until(self, name: str, fits: Callable[[Event], bool] = lambda _: True) -> Event:
        """The first event of a name that fits. Raises RawError."""
        try:
            async with asyncio.timeout(PATIENCE), self._news:
                while True:
                    for event in self.events:
                        if event["event"] == name and fits(event):
                            return event
                        if event["event"] in {"gone", "ended"}:
                            raise RawError(f"raw neonize ended: {event}; see {self._log}")
                    await self._news.wait()
        except TimeoutError:
            raise RawError(f"raw neonize did not report {name!r}; see {self._log}") from None

    def tell(self, do: str, **arguments: Any) -> float:
        """Give a command; the moment it was given."""
        at = time.monotonic()
        self._writer.write(msgspec.json.encode({"do": do, **arguments}) + b"\n")
        return at

    async def send(self, to: str, texts: Sequence[str]) -> None:
        """Send texts, one after the other; returns when the last was acknowledged."""
        self.tell("send", to=to.removeprefix("+"), texts=list(texts))
        await self.until("sent", lambda event: event["text"] == texts[-1])

    def called(self, text: str) -> float:
        """When the send call of this text was made."""
        for event in self.events:
            if event["event"] == "sent" and event["text"] == text:
                return float(event["called"])
        raise RawError(f"raw neonize did not send {text!r}")

    async def pair(self, people: ControlClient, number: str) -> None:
        """Connect and be linked to this person's account."""
        self.tell("connect")
        qr = await self.until("qr")
        await people.scan(number, qr["text"])
        await self.until("connected")


def store(path: Path) -> str:
    """The name of a store with the pragmas our hosts give theirs, so that disks cost both alike."""
    return (
        f"{quote(str(path))}?_journal_mode=WAL&_busy_timeout=15000"
        "&_synchronous=FULL&_txlock=immediate&_foreign_keys=on&_x="
    )


def run_raw(
    network: Network, scratch: Path, name: str, *, listens: bool = False
) -> AbstractAsyncContextManager[Raw]:
    """A fresh process that has neonize loaded and waits for orders.

    One of a name that was there before has its store, and is linked already.
    """
    flags = ["listen"] if listens else []
    arguments = [store(scratch / f"{name}.db"), network.proxy_url, *flags]
    return run_client(SCRIPT, network, scratch / f"{name}.log", arguments)


@asynccontextmanager
async def run_client(
    script: Path, network: Network, log_file: Path, arguments: Sequence[str]
) -> AsyncGenerator[Raw]:
    """A script that speaks as `raw_client.py` does, led to the network."""
    ours, theirs = socket.socketpair()
    begun = time.monotonic()
    # Go writes to both of its own accord; what it wrote is there to be read after a failure.
    with log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", script, str(theirs.fileno()), *arguments),
            env={
                **inherited(),
                **network.client_environment(),
                "NEONIZE_BOT_TAG": "off",
                "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
            },
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours)
    raw = Raw(process, begun, writer, log_file)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(raw.listen(reader))
            try:
                yield raw
            finally:
                # An unpaired neonize never returns from its connect: nothing gentler ends it.
                if process.returncode is None:
                    process.send_signal(signal.SIGKILL)
                await process.wait()
    finally:
        writer.close()
