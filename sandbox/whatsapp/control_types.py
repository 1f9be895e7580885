"""What goes over the control API: the bodies both its server and its client read and write.

Phone numbers are E.164 with the plus sign, times Unix seconds, durations seconds.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(ge=0, le=3600)]
Times = Annotated[int, Meta(ge=1, le=1_000_000)]
Code = Annotated[int, Meta(ge=100, le=999)]
Reply = Literal["none", "echo"]
Addressing = Literal["lid", "pn"]
Progress = Literal["sent", "delivered", "read"]


class PersonIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person to make up. `registered=False` is a number that is not on WhatsApp.

    `delivers` and `reads` say which receipts its phone sends by itself, `reply` whether it answers
    each text with the same text, `addressing` under which of its addresses others hear from it.
    """

    number: str
    push_name: Annotated[str, Meta(min_length=1, max_length=100)]
    registered: bool = True
    delivers: bool = True
    reads: bool = False
    reply: Reply = "none"
    addressing: Addressing = "lid"


class PersonChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is given is changed; the name only before the first device is linked."""

    registered: bool | None = None
    delivers: bool | None = None
    reads: bool | None = None
    reply: Reply | None = None
    addressing: Addressing | None = None


class DeviceOut(msgspec.Struct, frozen=True):
    """A linked device. `pending` counts the stanzas it has not confirmed yet."""

    owner: str
    device: int
    lid: str
    connected: bool
    available: bool
    prekeys: int
    pending: int
    connected_since: int | None = None


class PersonOut(msgspec.Struct, frozen=True):
    """`received` counts all messages so far, `undecryptable` those its phone cannot read."""

    number: str
    lid: str
    push_name: str
    registered: bool
    delivers: bool
    reads: bool
    reply: Reply
    addressing: Addressing
    available: bool
    received: int
    undecryptable: int
    devices: list[DeviceOut]


class ScanIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    qr: str


class CodeIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: str


class TextIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`to` is a phone number, or a group's JID."""

    to: str
    text: Annotated[str, Meta(min_length=1, max_length=65_536)]


class SentOut(msgspec.Struct, frozen=True):
    id: str
    chat: str
    text: str
    timestamp: int
    delivered: bool
    read: bool


class ReceivedOut(msgspec.Struct, frozen=True):
    """A message a phone could read. `content` is all of it, as protobuf writes JSON.

    `from_me` marks what the person's own companion sent; `chat` says to whom.
    """

    index: int
    id: str
    chat: str
    sender: str
    sender_device: int
    push_name: str
    timestamp: int
    kind: str
    text: str
    content: dict[str, Any]
    from_me: bool = False


class ReadIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ids: Annotated[list[str], Meta(min_length=1, max_length=1000)]


class PresenceIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    available: bool


class TypingIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    to: str
    state: Literal["composing", "recording", "paused"] = "composing"


class TypingOut(msgspec.Struct, frozen=True):
    sender: str
    state: str
    timestamp: int


class GroupIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group, made by `creator` of people's numbers."""

    subject: Annotated[str, Meta(min_length=1, max_length=100)]
    creator: str
    members: Annotated[list[str], Meta(max_length=1000)] = []


class GroupOut(msgspec.Struct, frozen=True):
    jid: str
    subject: str
    creator: str
    members: list[str]


class PairingOut(msgspec.Struct, frozen=True):
    """A client that waits to be linked; `number` if it asked for a code."""

    number: str | None


class DownIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cut every connection and refuse new ones for so long."""

    seconds: Seconds


class DialsIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the next dials to the server meet, whosever they are.

    `hang`: the WebSocket's upgrade is never answered. `mute`: it is, and the handshake is not.
    `cut`: the connection is closed in the middle of the handshake. 0 times ends it.
    """

    kind: Literal["hang", "mute", "cut"]
    times: Annotated[int, Meta(ge=0, le=1_000_000)] = 1


class HealthOut(msgspec.Struct, frozen=True):
    people: int
    connections: int
    pairings: int


class Drop(msgspec.Struct, frozen=True, tag_field="kind", tag="drop", forbid_unknown_fields=True):
    """The connections are closed without a word."""


class StreamError(
    msgspec.Struct, frozen=True, tag_field="kind", tag="stream_error", forbid_unknown_fields=True
):
    """The connections are told an error, then closed: 515 restart, 503 unavailable."""

    code: Code


class FailLogin(
    msgspec.Struct, frozen=True, tag_field="kind", tag="fail_login", forbid_unknown_fields=True
):
    """The next logins are refused; with `drop` they are provoked at once.

    413 and 414 are refused here: they abort a neonize process, see `Abort`.
    """

    reason: Code
    times: Times = 1
    drop: bool = True


class Abort(msgspec.Struct, frozen=True, tag_field="kind", tag="abort", forbid_unknown_fields=True):
    """The next login is refused as no neonize process survives: its library calls a nil function.

    For those whose client runs in a process that may die.
    """

    reason: Literal[413, 414] = 413
    drop: bool = True


class Flap(msgspec.Struct, frozen=True, tag_field="kind", tag="flap", forbid_unknown_fields=True):
    """The connections are closed, and the next logins are welcomed and closed as well."""

    times: Times = 1


class Poison(
    msgspec.Struct, frozen=True, tag_field="kind", tag="poison", forbid_unknown_fields=True
):
    """The connections are sent what some client cannot digest.

    `receipt` and `chatstate` are of a type nobody knows, `stanza` has a name nobody knows, `junk`
    is a frame that is no stanza, `noise` a frame that does not decrypt.
    """

    what: Literal["receipt", "chatstate", "stanza", "junk", "noise"]


class Ban(msgspec.Struct, frozen=True, tag_field="kind", tag="ban", forbid_unknown_fields=True):
    """The next login is refused with a temporary ban for `expire` seconds."""

    code: Code = 101
    expire: Annotated[int, Meta(ge=0)] = 3600
    drop: bool = True


class Silence(
    msgspec.Struct, frozen=True, tag_field="kind", tag="silence", forbid_unknown_fields=True
):
    """The connections stay open, and nothing passes in either direction.

    A login is still answered. What could not be brought is brought when `on` is false.
    """

    on: bool = True


class AckDelay(
    msgspec.Struct, frozen=True, tag_field="kind", tag="ack_delay", forbid_unknown_fields=True
):
    """Messages are acknowledged and brought on only after a while."""

    seconds: Seconds


class Nack(msgspec.Struct, frozen=True, tag_field="kind", tag="nack", forbid_unknown_fields=True):
    """The next messages are refused, as with 463 (reach-out timelock) or 475 (new-chat capping)."""

    code: Code
    times: Times = 1


class Garble(
    msgspec.Struct, frozen=True, tag_field="kind", tag="garble", forbid_unknown_fields=True
):
    """The next ciphertexts to this person's devices are spoilt: each has to be asked for again."""

    times: Times = 1


class Hold(msgspec.Struct, frozen=True, tag_field="kind", tag="hold", forbid_unknown_fields=True):
    """Messages to this person are kept back, and brought when `on` is false."""

    on: bool = True


class LogOut(
    msgspec.Struct, frozen=True, tag_field="kind", tag="log_out", forbid_unknown_fields=True
):
    """The phone removes its companions: `device_removed`."""


class Replaced(
    msgspec.Struct, frozen=True, tag_field="kind", tag="replaced", forbid_unknown_fields=True
):
    """The connections are told that another one took their place."""


class RefuseCode(
    msgspec.Struct, frozen=True, tag_field="kind", tag="refuse_code", forbid_unknown_fields=True
):
    """The next linking codes asked for this number are refused: 400, 404, or 429 for too many."""

    code: Code
    times: Times = 1


class Clear(msgspec.Struct, frozen=True, tag_field="kind", tag="clear", forbid_unknown_fields=True):
    """Every fault of this person ends; what was kept back is brought."""


Fault = (
    Drop
    | StreamError
    | FailLogin
    | Abort
    | Flap
    | Poison
    | Ban
    | Silence
    | AckDelay
    | Nack
    | Garble
    | Hold
    | LogOut
    | Replaced
    | RefuseCode
    | Clear
)


class Problem(msgspec.Struct, frozen=True):
    """An error as RFC 9457 has it."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
