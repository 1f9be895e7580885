"""An unmodified neonize as tests hold it: what it reported, and what it is told to do."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sandbox.network import Network

SCRIPT = Path(__file__).with_name("neonize_client.py")
DEADLINE = 30.0  # seconds for anything a client is waited for; generous, for busy machines

Event = dict[str, Any]
NeonizeStarter = Callable[[str], AbstractAsyncContextManager["NeonizeClient"]]


class NeonizeClient:
    """The child process, as events that came and commands to give."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.process = process
        self.events: list[Event] = []
        self._reader = reader
        self._writer = writer
        self._number = 0
        self._news = asyncio.Event()

    async def listen(self) -> None:
        while line := await self._reader.readline():
            self.events.append(msgspec.json.decode(line))
            self._news.set()
        self.events.append({"event": "gone"})
        self._news.set()

    async def until(
        self, name: str, fits: Callable[[Event], bool] = lambda _: True, after: int = 0
    ) -> Event:
        """Wait for an event among those after an index."""
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    for event in self.events[after:]:
                        if event["event"] == name and fits(event):
                            return event
                    assert not any(event["event"] == "gone" for event in self.events), self.events
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            seen = [event["event"] for event in self.events[after:]]
            pytest.fail(f"neonize did not report {name!r} in {DEADLINE} s; it reported {seen}")

    async def do(self, what: str, **arguments: Any) -> Any:
        """Give a command and return its result; a refusal comes as the text of its error."""
        self._number += 1
        number = self._number
        command = {"do": what, "number": number, "with": arguments}
        self._writer.write(msgspec.json.encode(command) + b"\n")
        event = await self.until("result", lambda each: each["number"] == number)
        return event.get("value") if "error" not in event else event["error"]

    @property
    def mark(self) -> int:
        """Where the events stand now, for `until(after=…)`."""
        return len(self.events)


async def eventually(holds: Callable[[], Awaitable[bool]], reason: str) -> None:
    """Ask again and again until it holds; fail with the reason when it is too late."""
    try:
        async with asyncio.timeout(DEADLINE):
            while not await holds():
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"{reason} in {DEADLINE} s")


@asynccontextmanager
async def neonize(network: Network, store: Path) -> AsyncGenerator[NeonizeClient]:
    ours, theirs = socket.socketpair()
    # Go writes to both of its own accord; what it wrote is there to be read after a failure.
    with (store.with_suffix(".log")).open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(SCRIPT), str(theirs.fileno()), str(store), network.proxy_url),
            env={"PATH": os.defpath, "NEONIZE_BOT_TAG": "off", **network.client_environment()},
            pass_fds=(theirs.fileno(),),
            stdout=log,
            stderr=log,
        )
    theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours)
    client = NeonizeClient(process, reader, writer)
    listening = asyncio.ensure_future(client.listen())
    try:
        await client.until("loaded")
        yield client
    finally:
        # An unpaired neonize never returns from its connect, so nothing gentler ends it.
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
        await listening
        writer.close()
        await writer.wait_closed()
