"""What the orchestrator and Prometheus ask: is it alive, is it ready, how is it going.

Alive means that every loop still turns: if not, a restart helps. Ready means that it can do its
work: AWS answers, every shard is held by somebody, and hosts can be made and answer. Reasons are
given as JSON.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from gateway.metrics import Metrics

Reasons = Callable[[], Mapping[str, str]]
"""What is the matter, by part; empty if nothing is."""


@asynccontextmanager
async def serve(
    host: str, port: int, *, alive: Reasons, ready: Reasons, metrics: Metrics
) -> AsyncGenerator[int]:
    """Answer on `host:port` while open; yields the port, which 0 leaves to the system."""

    def judged(reasons: Reasons) -> Callable[[web.Request], web.Response]:
        def answer(_: web.Request) -> web.Response:
            matter = reasons()
            body = {"status": "failing" if matter else "ok", "reasons": dict(matter)}
            return web.Response(
                body=msgspec.json.encode(body),
                status=503 if matter else 200,
                content_type="application/json",
            )

        return answer

    def expose(_: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition(),
            headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    app = web.Application()
    for path, answer in (
        ("/healthz", judged(alive)),
        ("/readyz", judged(ready)),
        ("/metrics", expose),
    ):
        app.router.add_get(path, _handler(answer))
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _handler(
    answer: Callable[[web.Request], web.Response],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return answer(request)

    return handle
