"""One client's WebSocket: the handshake, then stanzas in and out, each in its order.

What is to be sent is put in a line and written by one task, because the cipher counts frames. A
connection is ended by a last stanza, a short wait and the close: a client that sees the close too
early may lose the stanza.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec
from aiohttp import WSMsgType, web

from sandbox.whatsapp.frames import Frames, MalformedFrameError, frame
from sandbox.whatsapp.noise import Established, HandshakeError, Identity, Responder
from sandbox.whatsapp.wabinary import MAX_FRAME, MalformedNodeError, Node, decode, encode
from sandbox.whatsapp.world import DialFault, World

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 20.0  # seconds; as long as whatsmeow waits for us
LAST_WORDS = 0.3  # seconds between a last stanza and the close, measured to be enough
REQUEST_TIMEOUT = 20.0  # seconds a client has to answer a query of ours


class ClosedError(Exception):
    """The client went away before it answered."""


class _Raw(msgspec.Struct, frozen=True):
    plain: bytes | None


class Connection:
    def __init__(self, world: World, socket: web.WebSocketResponse) -> None:
        self.world = world
        self.client = b""  # its Noise key, once the handshake is through
        self.on_stanza: Callable[[Node], None] = _ignore
        self.on_close: Callable[[], None] = _nothing
        self._socket = socket
        self._line: asyncio.Queue[Node | _Raw | None] = asyncio.Queue()
        self._requests: dict[str, asyncio.Future[Node]] = {}
        self._ending = False
        self._lingers = False

    def send(self, stanza: Node) -> None:
        if not self._ending:
            self._line.put_nowait(stanza)

    def send_raw(self, plain: bytes | None) -> None:
        """Send a frame that is no stanza; `None` one that does not even decrypt."""
        if not self._ending:
            self._line.put_nowait(_Raw(plain))

    async def request(self, stanza: Node) -> Node:
        """Send a query and wait for its answer.

        Raises:
            ClosedError: the client left.
            TimeoutError: the client is there and does not answer.
        """
        answer = asyncio.get_running_loop().create_future()
        self._requests[stanza.text("id")] = answer
        self.send(stanza)
        try:
            return await asyncio.wait_for(answer, REQUEST_TIMEOUT)
        finally:
            del self._requests[stanza.text("id")]

    def end(self, *last: Node) -> None:
        """Close, after `last` has been sent and had time to be read."""
        if self._ending:
            return
        for stanza in last:
            self.send(stanza)
        self._ending = True
        self._lingers = bool(last)
        self._line.put_nowait(None)

    async def abort(self) -> None:
        """Close at once, without a last word."""
        self._ending = True
        await self._socket.close()

    async def fail(self, kind: DialFault) -> None:
        """Disappoint a client that dials, as asked."""
        with suppress(ClosedError, TimeoutError, MalformedFrameError):
            async with asyncio.timeout(HANDSHAKE_TIMEOUT + 1):
                await self._next_frame(Frames(), [])
                if kind == "mute":
                    await self._socket.receive()
        await self._socket.close()

    async def run(self, identity: Identity, welcome: Callable[[Established], None]) -> None:
        """Serve the client until either side closes; `welcome` learns who it is."""
        frames = Frames()
        early: list[bytes] = []
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                established = await self._shake_hands(frames, early, identity)
        except (HandshakeError, MalformedFrameError, TimeoutError, ClosedError) as error:
            logger.info("sandbox.handshake_failed", extra={"reason": str(error)})
            return
        self.client = established.client
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write(established))
            try:
                welcome(established)
                await self._read(frames, early, established)
            finally:
                self._ending = True
                self.on_close()
                self._fail_requests()
                writer.cancel()

    async def _shake_hands(
        self, frames: Frames, early: list[bytes], identity: Identity
    ) -> Established:
        responder = Responder(identity, self.world.rand)
        hello = await self._next_frame(frames, early)
        await self._socket.send_bytes(frame(responder.hello(hello)))
        return responder.finish(await self._next_frame(frames, early))

    async def _next_frame(self, frames: Frames, early: list[bytes]) -> bytes:
        while not early:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                raise ClosedError("closed during the handshake")
            early += frames.feed(message.data)
        return early.pop(0)

    async def _read(self, frames: Frames, early: list[bytes], channel: Established) -> None:
        waiting = early
        try:
            while True:
                for data in waiting:
                    self._take(channel.receiving.decrypt(data))
                message = await self._socket.receive()
                if message.type is not WSMsgType.BINARY:
                    return
                waiting = frames.feed(message.data)
        except (HandshakeError, MalformedNodeError) as error:
            logger.warning("sandbox.frame_refused", extra={"reason": str(error)})

    def _take(self, plain: bytes) -> None:
        stanza = decode(plain)
        answer = self._requests.get(stanza.text("id"))
        if stanza.tag == "iq" and answer is not None and not answer.done():
            answer.set_result(stanza)
        else:
            self.on_stanza(stanza)

    async def _write(self, channel: Established) -> None:
        while (stanza := await self._line.get()) is not None:
            plain = stanza.plain if isinstance(stanza, _Raw) else encode(stanza)
            sealed = channel.sending.encrypt(plain or b"")
            if not await self._put(frame(sealed if plain is not None else sealed[::-1])):
                return
        if self._lingers:
            await asyncio.sleep(LAST_WORDS)
        await self._socket.close()

    async def _put(self, data: bytes) -> bool:
        try:
            await self._socket.send_bytes(data)
        except ConnectionError:
            return False
        return True

    def _fail_requests(self) -> None:
        for answer in self._requests.values():
            if not answer.done():
                answer.set_exception(ClosedError("the client left without an answer"))

    @staticmethod
    def new_socket() -> web.WebSocketResponse:
        return web.WebSocketResponse(max_msg_size=MAX_FRAME + 3, compress=False, autoping=True)


def _ignore(_: Node) -> None:
    """Take no notice of a stanza."""


def _nothing() -> None:
    """Do nothing when the client leaves."""
