"""What was ordered, heard, written, told and connected: the books that the judge reads.

Everything is entered where it was seen from outside, by whoever would complain: the tenant's
client, the contacts' phones, the webhook receiver, WhatsApp's server. Times are monotonic seconds
of one machine. A text is never used twice.
"""

from dataclasses import dataclass, field

import msgspec


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A text the tenant sent, as its client knows it when it turns to the next."""

    session: str
    text: str
    at: float
    accepted_at: float | None
    """None where the API never said that it had accepted it."""
    message_id: str | None
    resend: bool
    """Whether the tenant would rather have it twice than not at all."""


class Heard(msgspec.Struct, frozen=True):
    """A text that a session's contact decrypted."""

    session: str
    text: str
    at: float


class Written(msgspec.Struct, frozen=True):
    """A text that a session's contact sent."""

    session: str
    text: str
    at: float


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook that arrived and was signed as it should be."""

    event_id: str
    type: str
    session: str
    at: float
    sequence: int
    message_id: str | None = None
    text: str | None = None


class Connection(msgspec.Struct, frozen=True):
    """A device's time on WhatsApp; without an end while it lasts."""

    session: str
    since: float
    until: float | None


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """A fault and what came after it, until everything was seen to work again."""

    kind: str
    what: str
    """Who suffered what, in words."""
    begun: float
    over: float
    """From when on recovery counts: its begin where another gateway could step in, its end where
    nobody could do anything before."""
    ended: float
    healed: bool
    """Whether everything was seen to work before patience ended."""


@dataclass
class Ledger:
    """All of it, in the order in which it was seen."""

    sessions: tuple[str, ...]
    orders: list[Order] = field(default_factory=list[Order])
    heard: list[Heard] = field(default_factory=list[Heard])
    written: list[Written] = field(default_factory=list[Written])
    told: list[Told] = field(default_factory=list[Told])
    connections: list[Connection] = field(default_factory=list[Connection])
    rounds: list[Round] = field(default_factory=list[Round])
