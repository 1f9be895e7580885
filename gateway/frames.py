"""What a session host and its gateway say to each other over their socket pair.

A frame is a four-byte big-endian length and a msgpack-encoded Struct, tagged by its name. The host
never uses stdout: the Go library prints there.
"""

from enum import StrEnum
from typing import Final

import msgspec

from gateway.limits import Limits
from shared.commands import SendMessage
from shared.env import JournalMode
from shared.events import SessionEvent
from shared.ids import MessageId
from shared.session import Pairing, Session

LARGEST_FRAME: Final = 4 * 1024 * 1024
"""Bytes. The largest text is a sixteenth of it; a longer length is a broken stream."""


class Watch(StrEnum):
    """What is watched because nobody would tell: each ends the host, and a new one is started."""

    SILENCE = "silence"
    """Connected, and nothing comes from WhatsApp."""
    UNCONNECTED = "unconnected"
    """Logged in, as far as was told, and there is no connection."""
    FLAPPING = "flapping"
    """Connected and dropped, again and again."""
    FIRST_WORD = "first_word"
    """No QR and no login after the dial."""
    LOGIN_AFTER_PAIRING = "login_after_pairing"
    REDIAL = "redial"
    """No login for long after a lost connection."""
    DEAF = "deaf"
    """The library's loop of events ended: what WhatsApp sends goes nowhere."""
    TAKE = "take"
    """An event is not being journalled."""
    SEND = "send"
    """A message in the library's hands neither goes out nor fails."""
    PULSE = "pulse"
    """The host stands still."""
    STOP = "stop"
    """It was told to end, and does not."""


class _Frame(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Begin(_Frame, frozen=True, kw_only=True):
    """Gateway to host, once, first: which session to hold, and how to reach WhatsApp."""

    session: Session
    store: str
    """The device store: a folder, or a `postgresql://` URL."""
    scratch: str
    """A folder of the session's own for what is of use to this machine only."""
    phone_number: str | None = None
    """Ask for a pairing code for this number, if pairing is needed."""
    prelude: str = ""
    proxy: str = ""
    proxied: bool = False
    """Whether the proxy is the session's own."""
    journal_sync: bool = True
    journal_mode: JournalMode = "wal"
    limits: Limits = Limits()
    until: float
    """When the host must be gone unless a `Ping` says later (seconds of the monotonic clock, which
    is one for all processes of a machine): before its shard's lease can pass to another gateway, so
    that no second host ever holds the device beside it."""


class RequestCode(_Frame, frozen=True, kw_only=True):
    """Gateway to host: a (new) pairing code for this number, while pairing."""

    phone_number: str


class Send(_Frame, frozen=True, kw_only=True):
    """Gateway to host: send one message. The outcome comes as an entry.

    It may have been ordered before: then what is journalled of it decides.
    """

    command: SendMessage


class Recorded(_Frame, frozen=True, kw_only=True):
    """Gateway to host: entries up to `sequence` are stored; the journal may forget them."""

    sequence: int


class Stop(_Frame, frozen=True, kw_only=True):
    """Gateway to host: close the socket, drain, journal the end, and exit."""

    log_out: bool = False
    quiet: bool = False
    """Journal no state change: the session goes on on another gateway or in a new host."""


class Ping(_Frame, frozen=True, kw_only=True):
    """Gateway to host, at each renewal of the lease: how long it may live, as `Begin` has it.

    It is a time and not a sign of life, because a gateway may be frozen with a ping under way, or
    be alive and unable to renew its lease.
    """

    until: float


class Ready(_Frame, frozen=True, kw_only=True):
    """Host to gateway: the library is loaded and the connection is being made."""

    pid: int


class Entry(_Frame, frozen=True, kw_only=True):
    """Host to gateway: one journal entry, in order. Sent again until it was `Recorded`."""

    sequence: int
    event: SessionEvent


class Settled(_Frame, frozen=True, kw_only=True):
    """Host to gateway: an order had its outcome before, and that is recorded."""

    message_id: MessageId


class Offer(_Frame, frozen=True, kw_only=True):
    """Host to gateway: what to show whoever links the number. Not journalled: it expires."""

    pairing: Pairing


class Pulse(_Frame, frozen=True, kw_only=True):
    """Host to gateway: alive. The ages say whether WhatsApp is, too."""

    connected: bool
    sending_for: float
    """Seconds the send in hand has taken, 0 when idle."""
    journal_depth: int
    """Entries not yet recorded."""
    taking_for: float = 0.0
    """Seconds the event in hand has taken to be journalled, 0 without one."""
    heard_ago: float | None = None
    """Seconds since a byte came over the connection, None without one."""


class Farewell(_Frame, frozen=True, kw_only=True):
    """Host to gateway: the last frame before an orderly exit."""

    asked: bool
    """Whether the gateway asked for it; otherwise the host should be started again."""
    watch: Watch | None = None
    """What made the host end itself, if it was one of its watches."""


ToHost = Begin | RequestCode | Send | Recorded | Stop | Ping
FromHost = Ready | Entry | Settled | Offer | Pulse | Farewell
