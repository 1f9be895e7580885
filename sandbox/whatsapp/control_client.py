"""The control API as typed Python: what the journeys, the demo and the measurements hold."""

import asyncio
from types import TracebackType
from typing import Literal, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from sandbox.whatsapp import control_types as bodies

T = TypeVar("T")

REQUEST_TIMEOUT = 30.0  # seconds, besides what a question is meant to wait


class ControlError(Exception):
    """The sandbox refused; `problem` says why."""

    def __init__(self, problem: bodies.Problem) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem


class TooLateError(Exception):
    """What was waited for did not happen in time."""


class ControlClient:
    """Use it as an asynchronous context manager. Numbers are E.164, durations seconds.

    Every method raises `ControlError` where the sandbox refuses, `aiohttp.ClientError` where it
    cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def health(self) -> bodies.HealthOut:
        return await self._get("/health", bodies.HealthOut)

    async def connections(self) -> list[bodies.DeviceOut]:
        """The companions that are connected now."""
        return await self._get("/connections", list[bodies.DeviceOut])

    async def pairings(self) -> list[bodies.PairingOut]:
        """The clients that wait to be linked."""
        return await self._get("/pairings", list[bodies.PairingOut])

    async def down(self, seconds: float) -> None:
        """Cut every connection and let none through for so long."""
        await self._ask("POST", "/down", bodies.DownIn(seconds))

    async def fail_dials(self, kind: Literal["hang", "mute", "cut"], times: int = 1) -> None:
        """Let the next dials fail, see `DialsIn`."""
        await self._ask("POST", "/dials", bodies.DialsIn(kind, times))

    async def create_person(
        self,
        number: str,
        push_name: str,
        *,
        registered: bool = True,
        delivers: bool = True,
        reads: bool = False,
        reply: bodies.Reply = "none",
        addressing: bodies.Addressing = "lid",
    ) -> bodies.PersonOut:
        """Make a person up, a contact or the owner of an account; see `PersonIn`."""
        person = bodies.PersonIn(number, push_name, registered, delivers, reads, reply, addressing)
        return await self._post("/people", person, bodies.PersonOut)

    async def people(self) -> list[bodies.PersonOut]:
        return await self._get("/people", list[bodies.PersonOut])

    async def person(self, number: str) -> bodies.PersonOut:
        return await self._get(_person(number), bodies.PersonOut)

    async def change_person(
        self,
        number: str,
        *,
        registered: bool | None = None,
        delivers: bool | None = None,
        reads: bool | None = None,
        reply: bodies.Reply | None = None,
        addressing: bodies.Addressing | None = None,
    ) -> bodies.PersonOut:
        """Change what is given."""
        change = bodies.PersonChange(registered, delivers, reads, reply, addressing)
        changed = await self._ask("PATCH", _person(number), change)
        return msgspec.json.decode(changed, type=bodies.PersonOut)

    async def scan(self, number: str, qr: str) -> bodies.DeviceOut:
        """Scan a QR text with a person's phone; returns when the client has accepted."""
        return await self._post(f"{_person(number)}/scan", bodies.ScanIn(qr), bodies.DeviceOut)

    async def type_code(self, number: str, code: str) -> bodies.DeviceOut:
        """Type a pairing code into a person's phone; returns when the client has accepted."""
        return await self._post(f"{_person(number)}/code", bodies.CodeIn(code), bodies.DeviceOut)

    async def send(self, number: str, to: str, text: str) -> bodies.SentOut:
        """Let a person write to a number or a group."""
        message = bodies.TextIn(to, text)
        return await self._post(f"{_person(number)}/messages", message, bodies.SentOut)

    async def sent(
        self, number: str, message_id: str, *, until: bodies.Progress = "sent", wait: float = 0
    ) -> bodies.SentOut:
        """Read a message a person sent, once it got as far as `until` or the time is over."""
        query = f"until={until}&wait={wait}"
        path = f"{_person(number)}/messages/{quote(message_id, safe='')}?{query}"
        return await self._get(path, bodies.SentOut, wait)

    async def received(
        self, number: str, *, after: int = -1, wait: float = 0
    ) -> list[bodies.ReceivedOut]:
        """List what a person received after an index; waits for one while there is none."""
        path = f"{_person(number)}/received?after={after}&wait={wait}"
        return await self._get(path, list[bodies.ReceivedOut], wait)

    async def wait_for_text(
        self, number: str, text: str, *, after: int = -1, wait: float = 20
    ) -> bodies.ReceivedOut:
        """Wait until a person received this very text.

        Raises:
            TooLateError: it did not come in time.
        """
        try:
            async with asyncio.timeout(wait):
                while True:
                    for message in await self.received(number, after=after, wait=wait):
                        if message.text == text:
                            return message
                        after = message.index
        except TimeoutError as error:
            raise TooLateError(f"the text did not come in {wait} s") from error

    async def mark_read(self, number: str, *message_ids: str) -> None:
        await self._ask("POST", f"{_person(number)}/read", bodies.ReadIn(list(message_ids)))

    async def set_presence(self, number: str, *, available: bool) -> None:
        await self._ask("POST", f"{_person(number)}/presence", bodies.PresenceIn(available))

    async def type_to(self, number: str, to: str, state: str = "composing") -> None:
        """Let a person be seen typing: `composing`, `recording` or `paused`."""
        typing = {"to": to, "state": state}
        await self._ask("POST", f"{_person(number)}/typing", typing)

    async def typing(self, number: str) -> list[bodies.TypingOut]:
        """What a person's phone was told of others' typing."""
        return await self._get(f"{_person(number)}/typing", list[bodies.TypingOut])

    async def devices(self, number: str) -> list[bodies.DeviceOut]:
        return await self._get(f"{_person(number)}/devices", list[bodies.DeviceOut])

    async def unlink(self, number: str, device: int) -> None:
        """Log one companion out from the person's phone."""
        await self._ask("DELETE", f"{_person(number)}/devices/{device}", None)

    async def fault(self, number: str, fault: bodies.Fault) -> None:
        """Make something go wrong for a person's connections."""
        await self._ask("POST", f"{_person(number)}/faults", fault)

    async def create_group(self, subject: str, creator: str, members: list[str]) -> bodies.GroupOut:
        group = bodies.GroupIn(subject, creator, members)
        return await self._post("/groups", group, bodies.GroupOut)

    async def groups(self) -> list[bodies.GroupOut]:
        return await self._get("/groups", list[bodies.GroupOut])

    async def _get(self, path: str, kind: type[T], wait: float = 0) -> T:
        return msgspec.json.decode(await self._ask("GET", path, None, wait), type=kind)

    async def _post(self, path: str, body: object, kind: type[T]) -> T:
        return msgspec.json.decode(await self._ask("POST", path, body), type=kind)

    async def _ask(self, method: str, path: str, body: object, wait: float = 0) -> bytes:
        if self._session is None:
            raise RuntimeError("use the control client as a context manager")
        data = None if body is None else msgspec.json.encode(body)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT + wait)
        async with self._session.request(
            method, self._url + path, data=data, timeout=timeout
        ) as response:
            said = await response.read()
        if response.status >= 400:
            raise ControlError(msgspec.json.decode(said, type=bodies.Problem))
        return said


def _person(number: str) -> str:
    return f"/people/{quote(number, safe='')}"
