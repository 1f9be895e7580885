"""The library's events by their codes, each read into what it means for us."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from google.protobuf.message import Message
from neonize.proto.Neonize_pb2 import (
    ClientOutdated,
    Connected,
    ConnectFailure,
    Device,
    Disconnected,
    KeepAliveRestored,
    KeepAliveTimeout,
    LoggedOut,
    OfflineSyncCompleted,
    PairStatus,
    Receipt,
    StreamError,
    StreamReplaced,
    TemporaryBan,
    UndecryptableMessage,
)
from neonize.proto.Neonize_pb2 import Message as MessageEvent

from gateway.host import disconnects
from gateway.host.convert import Account, Received, Seen, account, received, seen, unavailable
from gateway.host.verdict import Verdict


class CaughtUp(msgspec.Struct, frozen=True):
    """WhatsApp has brought all that it had kept for the device while it was away."""


Notice = Account | CaughtUp | Received | Seen | Verdict

_READERS: Final[dict[int, tuple[type[Message], Callable[[Any, int], Notice | None]]]] = {
    0: (Device, lambda event, _: account(event)),
    2: (PairStatus, lambda event, _: disconnects.paired(event)),
    3: (Connected, lambda _, __: disconnects.CONNECTED),
    4: (KeepAliveTimeout, lambda event, _: disconnects.unanswered(event)),
    5: (KeepAliveRestored, lambda _, __: disconnects.CONNECTED),
    6: (LoggedOut, lambda event, _: disconnects.logged_out(event)),
    7: (StreamReplaced, lambda _, __: disconnects.REPLACED),
    8: (TemporaryBan, disconnects.banned),
    9: (ConnectFailure, lambda event, _: disconnects.refused(event)),
    10: (ClientOutdated, lambda _, __: disconnects.OUTDATED),
    # The stream's end follows and is an event of its own.
    11: (StreamError, lambda _, __: disconnects.STAY),
    12: (Disconnected, lambda _, __: disconnects.DROPPED),
    17: (MessageEvent, lambda event, _: received(event)),
    18: (Receipt, lambda event, _: seen(event)),
    27: (OfflineSyncCompleted, lambda _, __: CaughtUp()),
    44: (UndecryptableMessage, lambda event, _: unavailable(event)),
}

CODES: Final = tuple(sorted(_READERS.keys() - {0}))
"""Events to subscribe to; 0, the account, comes unasked. Chat presence (19) stays out: an unknown
kind of it ends the library's loop."""


def read(code: int, payload: bytes, now: int) -> Notice | None:
    """What an event means, or None where it means nothing to anyone.

    Raises protobuf's DecodeError for bytes that are not what the code says, KeyError for a code
    that was not subscribed to.
    """
    kind, reader = _READERS[code]
    return reader(kind.FromString(payload), now)
