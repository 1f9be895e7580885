"""A tenant's webhook receiver, whose judge is the `standardwebhooks` library and not us."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from sandbox.processes import free_port


@dataclass(frozen=True)
class Delivered:
    """A webhook as it arrived, and whether its signature held."""

    id: str
    event: Any
    verified: bool
    body: bytes
    headers: Mapping[str, str]
    """By lower-case name."""
    at: float = 0.0
    """Monotonic seconds."""


class Receiver:
    """Answers 204 to what verifies and 401 to what does not, and remembers both."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.secret: str | None = None
        """The endpoint's secret, once the API has told it."""
        self.seen: list[Delivered] = []
        self.refusal: tuple[int, dict[str, str]] | None = None
        """Status and headers to answer with instead, without a look at what comes."""
        self._changed = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.refusal is not None:
            status, headers = self.refusal
            return web.Response(status=status, headers=headers)
        headers = {name.lower(): value for name, value in request.headers.items()}
        delivered = Delivered(
            headers.get("webhook-id", ""),
            msgspec.json.decode(body),
            self.secret is not None and verifies(self.secret, body, headers),
            body,
            headers,
            time.monotonic(),
        )
        async with self._changed:
            self.seen.append(delivered)
            self._changed.notify_all()
        return web.Response(status=204 if delivered.verified else 401)

    async def wait(
        self, wanted: Callable[[Any], bool], what: str, within: float = 20.0
    ) -> Delivered:
        """The first verified event that is `wanted`. Raises TimeoutError, naming `what`."""
        try:
            async with asyncio.timeout(within), self._changed:
                while True:
                    for each in self.seen:
                        if each.verified and wanted(each.event):
                            return each
                    await self._changed.wait()
        except TimeoutError:
            types = [each.event.get("type") for each in self.seen]
            raise TimeoutError(f"no webhook with {what} within {within:g} s; got {types}") from None

    async def typed(self, event_type: str, within: float = 20.0) -> Delivered:
        """The first verified event of a type."""
        return await self.wait(lambda event: event["type"] == event_type, event_type, within)


def verifies(secret: str, body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether the library takes a request for one signed with this secret."""
    try:
        Webhook(secret).verify(body, dict(headers))
    except WebhookVerificationError:
        return False
    return True


@asynccontextmanager
async def run_receiver() -> AsyncGenerator[Receiver]:
    """A receiver on a free port of 127.0.0.1."""
    port = free_port()
    receiver = Receiver(f"http://127.0.0.1:{port}/webhooks")
    app = web.Application()
    app.router.add_post("/webhooks", receiver.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield receiver
    finally:
        await runner.cleanup()
