"""A message a tenant sends, and what may become of it.

`queued → sent → delivered → read`, or `failed`, or `uncertain`: handed to WhatsApp, and then the
host died before the answer. Statuses only move up the ranks, so a late or repeated event changes
nothing, and a receipt settles what was uncertain.
"""

import re
from enum import StrEnum
from typing import Final, Literal

import msgspec

from shared.ids import MessageId, SessionId, TenantId

LONGEST_TEXT: Final = 65_536
"""Characters WhatsApp carries in one text message."""
LONGEST_EXPIRY: Final = 24 * 3600
"""Seconds a message may wait to be sent: within what a command queue keeps."""


class MessageStatus(StrEnum):
    QUEUED = "queued"
    UNCERTAIN = "uncertain"
    FAILED = "failed"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"


RANK: Final[dict[MessageStatus, int]] = {status: rank for rank, status in enumerate(MessageStatus)}
"""A status may only be followed by one of a higher rank."""


class FailureCode(StrEnum):
    """Why a message failed."""

    EXPIRED = "expired"
    NOT_ON_WHATSAPP = "not_on_whatsapp"
    REACHOUT_LIMITED = "reachout_limited"
    NEW_CHATS_CAPPED = "new_chats_capped"
    RATE_LIMITED = "rate_limited"
    NOT_CONNECTED = "not_connected"
    SESSION_ENDED = "session_ended"
    REFUSED = "refused"
    INVALID = "invalid"


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A failure as tenants see it."""

    code: FailureCode
    detail: str
    blame: Literal["whatsapp", "account", "recipient", "request", "zapgate"]
    retryable: bool
    whatsapp_code: int | None = None


class Text(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """A text message."""

    text: str


Content = Text
"""What a message carries; further kinds join the union under the same tag field."""


class OnUncertain(StrEnum):
    """What to do with a message whose sending was cut off before WhatsApp's answer."""

    REPORT = "report"
    """Leave it and say so by `message.uncertain`. The default: never doubled in silence."""
    RESEND = "resend"
    """Send it again; the recipient may get it twice."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as stored."""

    id: MessageId
    tenant_id: TenantId
    session_id: SessionId
    to: str
    """Canonical: E.164 with `+`, or a group's JID."""
    content: Content
    status: MessageStatus
    created_at: int
    updated_at: int
    expires_at: int
    on_uncertain: OnUncertain = OnUncertain.REPORT
    whatsapp_id: str | None = None
    sent_at: int | None = None
    delivered_at: int | None = None
    read_at: int | None = None
    failure: Failure | None = None


_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
"""ITU-T E.164: at most 15 digits, the first not zero; no country has fewer than 7 in all."""
_GROUP: Final = re.compile(r"[0-9]{5,30}(-[0-9]{5,20})?@g\.us")


def is_e164(text: str) -> bool:
    return _E164.fullmatch(text) is not None


def is_recipient(text: str) -> bool:
    """Whether a message can be addressed to it: a phone number in E.164, or a group's JID."""
    return is_e164(text) or _GROUP.fullmatch(text) is not None
