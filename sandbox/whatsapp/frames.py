"""Frames: what travels in a WebSocket message, before and after the handshake.

A frame is three bytes of length, then the data. A client opens with four bytes of its own ("WA",
6 and the token tables' version), and Baileys may put its edge-routing note before them. A
WebSocket message we send always holds whole frames: whatsmeow miscounts a frame that is split.
"""

PROLOGUE = b"WA\x06\x03"
EDGE_ROUTING = b"ED\x00\x01"
MAX_LENGTH = 1 << 24  # what three bytes can say


class MalformedFrameError(ValueError):
    """A client that does not open like a WhatsApp Web client."""


def frame(data: bytes) -> bytes:
    if len(data) >= MAX_LENGTH:
        raise MalformedFrameError(f"{len(data)} bytes do not fit a frame")
    return len(data).to_bytes(3, "big") + data


class Frames:
    """Cuts what arrives into frames, however it was cut on the way."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._opened = False

    def feed(self, data: bytes) -> list[bytes]:
        """The frames completed by `data`.

        Raises:
            MalformedFrameError: the opening is not that of a WhatsApp Web client.
        """
        self._rest += data
        if not self._opened and not self._open():
            return []
        whole: list[bytes] = []
        while (found := self._take()) is not None:
            whole.append(found)
        return whole

    def _open(self) -> bool:
        rest = self._rest
        if rest.startswith(EDGE_ROUTING[:2]):
            if len(rest) < 7:
                return False
            end = 7 + int.from_bytes(rest[4:7], "big")
            if len(rest) < end:
                return False
            del rest[:end]
        if len(rest) < len(PROLOGUE):
            return False
        if not rest.startswith(PROLOGUE):
            raise MalformedFrameError("the connection does not open with WA and version 6.3")
        del rest[: len(PROLOGUE)]
        self._opened = True
        return True

    def _take(self) -> bytes | None:
        if len(self._rest) < 3:
            return None
        end = 3 + int.from_bytes(self._rest[:3], "big")
        if len(self._rest) < end:
            return None
        found = bytes(self._rest[3:end])
        del self._rest[:end]
        return found
