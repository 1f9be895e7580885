"""Ids: minted and parsed here and nowhere else.

An id is a prefix that names its kind, an underscore, and 26 characters of Crockford base32: 48 bits
of milliseconds and 80 random bits (the ULID layout, lower case). Ids of one kind therefore sort by
the time they were minted, carry no dot (Standard Webhooks forbids one in `webhook-id`), and cannot
be guessed.
"""

import re
from typing import Final, NewType

TenantId = NewType("TenantId", str)
KeyId = NewType("KeyId", str)
SessionId = NewType("SessionId", str)
MessageId = NewType("MessageId", str)
EndpointId = NewType("EndpointId", str)
EventId = NewType("EventId", str)
CommandId = NewType("CommandId", str)
RecoveryId = NewType("RecoveryId", str)
RequestId = NewType("RequestId", str)
WorkerId = NewType("WorkerId", str)

TENANT: Final = "ten"
KEY: Final = "key"
SESSION: Final = "ses"
MESSAGE: Final = "msg"
ENDPOINT: Final = "ep"
EVENT: Final = "evt"
COMMAND: Final = "cmd"
RECOVERY: Final = "rec"
REQUEST: Final = "req"
WORKER: Final = "gw"

RANDOM_BYTES: Final = 10
"""How much randomness `mint` takes: 80 bits."""

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PYTHONS: Final = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
"""Our digits to those of `int` in base 32."""
_SHAPE: Final = re.compile(r"([a-z]{2,3})_([0-7][0-9a-hjkmnp-tv-z]{25})")


def mint(prefix: str, now: int, random: bytes) -> str:
    """A new id of the kind `prefix`, from the time in milliseconds and ten random bytes."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"an id takes {RANDOM_BYTES} random bytes, not {len(random)}")
    number = (now << 80) | int.from_bytes(random)
    return f"{prefix}_{_base32(number, 26)}"


def following(previous: str, minted: str) -> str:
    """`minted` where it sorts after `previous`, an id of its kind; else the id next to `previous`.

    So ids of one millisecond, or of a clock that was set back, sort as they were minted (ULID's
    monotonic rule).
    """
    if minted > previous:
        return minted
    prefix, _, digits = previous.partition("_")
    return f"{prefix}_{_base32(_number(digits) + 1, 26)}"


def floor(prefix: str, moment: int) -> str:
    """The least id of a kind that could be minted at `moment` (ms): a bound for range queries."""
    return f"{prefix}_{_base32(moment << 80, 26)}"


def send_command(message_id: MessageId) -> CommandId:
    """The id of the command that sends a message: the same however often it is ordered."""
    return CommandId(COMMAND + message_id.removeprefix(MESSAGE))


def resuming(endpoint_id: EndpointId) -> RecoveryId:
    """The id of the job that releases what an endpoint's deliveries waited for: there is one."""
    return RecoveryId(RECOVERY + endpoint_id.removeprefix(ENDPOINT))


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` has the shape of an id of this kind: a cheap test before a look-up."""
    match = _SHAPE.fullmatch(text)
    return match is not None and match[1] == prefix


def minted_at(text: str) -> int:
    """The milliseconds an id was minted at. Raises ValueError for anything that is not an id."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ValueError("not an id")
    return _number(match[2]) >> 80


def _number(digits: str) -> int:
    return int(digits.translate(_PYTHONS), 32)


def _base32(number: int, length: int) -> str:
    digits: list[str] = []
    for _ in range(length):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
