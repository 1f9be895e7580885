"""Frames over a stream socket: cut from bytes, and put into them."""

import asyncio
import socket
from typing import Final, Generic, TypeVar

import msgspec

from gateway.frames import LARGEST_FRAME, FromHost, ToHost
from shared.errors import Malformed

_PREFIX: Final = 4
_CHUNK: Final = 64 * 1024

T = TypeVar("T")

TO_HOST: Final[msgspec.msgpack.Decoder[ToHost]] = msgspec.msgpack.Decoder(ToHost)
FROM_HOST: Final[msgspec.msgpack.Decoder[FromHost]] = msgspec.msgpack.Decoder(FromHost)


def pack(frame: msgspec.Struct) -> bytes:
    """A frame as bytes. Raises ValueError for one that no receiver would take."""
    body = msgspec.msgpack.encode(frame)
    if len(body) > LARGEST_FRAME:
        raise ValueError(f"a frame of {len(body)} bytes")
    return len(body).to_bytes(_PREFIX) + body


class Splitter(Generic[T]):
    """Cuts frames from bytes, however they arrive."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[T]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[T]:
        """The frames that are complete now. Raises Malformed; the stream is lost then."""
        self._buffer += data
        frames: list[T] = []
        while len(self._buffer) >= _PREFIX:
            length = int.from_bytes(self._buffer[:_PREFIX])
            if length > LARGEST_FRAME:
                raise Malformed(f"a frame claims {length} bytes")
            end = _PREFIX + length
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[_PREFIX:end])
            del self._buffer[:end]
            try:
                frames.append(self._decoder.decode(body))
            except msgspec.DecodeError as error:
                raise Malformed(f"a frame does not decode: {error}") from error
        return frames


async def over(end: socket.socket, decoder: msgspec.msgpack.Decoder[T]) -> "Channel[T]":
    """A channel over one end of a socket pair."""
    end.setblocking(False)  # noqa: FBT003 (the socket's own signature)
    reader, writer = await asyncio.open_unix_connection(sock=end)
    return Channel(reader, writer, decoder)


class Channel(Generic[T]):
    """One end of a socket pair: `T` is what comes in."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        decoder: msgspec.msgpack.Decoder[T],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._splitter = Splitter(decoder)

    async def receive(self) -> list[T]:
        """The next frames, at least one; none at all when the other end is gone.

        Raises Malformed.
        """
        while True:
            try:
                data = await self._reader.read(_CHUNK)
            except ConnectionError:
                return []
            if not data:
                return []
            frames = self._splitter.feed(data)
            if frames:
                return frames

    async def send(self, frame: msgspec.Struct) -> None:
        """Write a frame, and wait while the other end is slow. Silent when it is gone."""
        if self._writer.is_closing():
            return
        try:
            self._writer.write(pack(frame))
            await self._writer.drain()
        except ConnectionError:
            return

    def post(self, frame: msgspec.Struct) -> None:
        """Write a frame without waiting: for those whose number is bounded elsewhere."""
        if not self._writer.is_closing():
            self._writer.write(pack(frame))

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return
