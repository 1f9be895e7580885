"""The server itself: one TLS port with the WebSocket that clients talk to, and the media host."""

import asyncio
import logging

from aiohttp import web

from sandbox.whatsapp.certificates import Authority
from sandbox.whatsapp.clients import Clients
from sandbox.whatsapp.connection import Connection
from sandbox.whatsapp.media import MAX_FILE
from sandbox.whatsapp.noise import Identity, certify
from sandbox.whatsapp.pairing import Pairings
from sandbox.whatsapp.world import World

HANG = 3600.0  # seconds until an upgrade is answered that is to hang: longer than any client lives

logger = logging.getLogger(__name__)


class Server:
    def __init__(self, world: World, pairings: Pairings, authority: Authority) -> None:
        self._world = world
        self._clients = Clients(world, pairings)
        self._tls = authority.tls
        self._identity: Identity = certify(authority.noise_root, world.clock(), world.rand)
        self._connections: set[Connection] = set()
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> int:
        """Listen; return the port."""
        app = web.Application(client_max_size=MAX_FILE)
        app.router.add_get("/ws/chat", self._chat)
        app.router.add_routes(self._world.media.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=self._tls)
        await site.start()
        return self._runner.addresses[0][1]

    async def stop(self) -> None:
        for connection in list(self._connections):
            await connection.abort()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _chat(self, request: web.Request) -> web.WebSocketResponse:
        if self._world.is_down():
            raise web.HTTPServiceUnavailable
        fault = self._world.dial()
        if fault == "hang":
            await asyncio.sleep(HANG)
        socket = Connection.new_socket()
        await socket.prepare(request)
        connection = Connection(self._world, socket)
        self._connections.add(connection)
        try:
            if fault is not None:
                await connection.fail(fault)
                return socket
            await connection.run(
                self._identity, lambda established: self._clients.welcome(connection, established)
            )
        finally:
            self._connections.discard(connection)
        return socket
