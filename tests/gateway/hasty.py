"""A prelude for hosts: the sandbox's, with a library that pings three times as often.

whatsmeow keeps the times of its pings in variables, side by side (keepalive.go): the deadline of an
answer, the shortest and longest time between two, and how long they may fail. Besides, a host that
hears `FREEZE` never finishes taking it.
"""

import ctypes
import struct
import time
from typing import Final

from gateway.host import intake
from gateway.host.convert import Account
from sandbox import trust
from shared.events import ReceivedMessage
from shared.message import Text

HASTE: Final = 0.3
"""The library's times, and the `patience` to use with it."""
FREEZE: Final = "freeze"
_TIMES: Final = struct.Struct("<4q")
_NANOSECONDS: Final = tuple(seconds * 10**9 for seconds in (10, 20, 30, 180))
_AS_OWN: Final = intake.as_own


def install() -> None:
    """Lead the host to the sandbox, and let its library ping sooner."""
    trust.install()
    usual = _TIMES.pack(*_NANOSECONDS)
    (place,) = [
        place
        for start, end in trust._writable()  # pyright: ignore[reportPrivateUsage] (another of its tricks)
        for place in trust._find(start, end, usual)  # pyright: ignore[reportPrivateUsage] (likewise)
    ]
    hasty = _TIMES.pack(*(round(HASTE * each) for each in _NANOSECONDS))
    ctypes.memmove(place, hasty, len(hasty))
    intake.as_own = _freeze


def _freeze(message: ReceivedMessage, account: Account) -> ReceivedMessage:
    if message.content == Text(FREEZE):
        time.sleep(3600)
    return _AS_OWN(message, account)
