"""A bare aiohttp loop that posts the same bodies, signed, and reads the answers: nothing else.

Executed as `bare_postman.py SINK_URL`; speaks as `sandbox.bench.postman` does. No rows, no turns,
no deadlines, no addresses judged, no log: what is left when somebody only posts.
"""

import asyncio
import random
import sys
import time
from collections.abc import Iterable
from typing import Final

import aiohttp

from sandbox.bench.errand import Told, obey
from sandbox.bench.workload import bodies
from shared import clock
from shared.ids import EventId, SessionId
from shared.signing import sign_webhook, webhook_secret

AT_ONCE: Final = 200
"""Posts under way: as many as ours has to eight tenants, each of whom may have a ninth of the
slots. More at a time cost more each."""


class BarePostman:
    def __init__(self, http: aiohttp.ClientSession, sink: str) -> None:
        self._http = http
        self._url = f"{sink}/ok"
        self._secret = (webhook_secret(bytes(32)),)
        self._bodies = bodies(SessionId("ses_bare"))

    async def drive(self, *, events: int) -> Told:
        lot = [next(self._bodies) for _ in range(events)]
        begun, cpu = time.monotonic(), time.process_time()
        turns = iter(lot)
        await asyncio.gather(*(self._each(turns) for _ in range(AT_ONCE)))
        spent = {"seconds": time.monotonic() - begun, "cpu": time.process_time() - cpu}
        return {"deliveries": events, **spent}

    async def alone(self, *, events: int, apart: float) -> Told:
        handed: dict[str, float] = {}
        for event_id, body in [next(self._bodies) for _ in range(events)]:
            await asyncio.sleep(random.uniform(apart, 2 * apart))  # noqa: S311 - not a secret
            handed[event_id] = time.monotonic()
            await self._post(event_id, body)
        return {"handed": handed, "deliveries": events}

    async def _each(self, turns: Iterable[tuple[EventId, bytes]]) -> None:
        for event_id, body in turns:
            await self._post(event_id, body)

    async def _post(self, event_id: EventId, body: bytes) -> None:
        now = clock.millis() // clock.SECOND
        headers = {
            "content-type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign_webhook(self._secret, event_id, now, body),
        }
        async with self._http.post(self._url, data=body, headers=headers) as answer:
            await answer.read()
            answer.raise_for_status()


async def main(sink: str) -> None:
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as http:
        postman = BarePostman(http, sink)
        await obey({"drive": postman.drive, "alone": postman.alone})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
