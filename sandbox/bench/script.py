"""Recorded requests to AWS as a script that can be played again, elsewhere, by anybody.

A bare counterpart has to make the same requests as the product: same actions, same shapes, same
batches. So the product's are recorded on the wire and played back against a stack of their own,
with the ids minted anew, because a row or a deduplication id counts only once.
"""

import base64
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

Params = dict[str, Any]
Mint = Callable[[], str]
"""The last characters of a new id."""

_FRESH: Final = re.compile(
    r"\b((?:msg|evt|cmd|req)_[0-7][0-9a-hjkmnp-tv-z]{9})([0-9a-hjkmnp-tv-z]{16})\b"
)
"""Ids that are minted for a request, a message or an event; those of tenants and the like stay."""

_REPEATS: Final = "ClientRequestToken"

FRESH_LENGTH: Final = 16
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"


class Record(msgspec.Struct, frozen=True):
    """One request as it went over the wire. Times are monotonic seconds."""

    begun: float
    ended: float
    target: str
    """`DynamoDB_20120810.PutItem`, `AmazonSQS.SendMessage`: the X-Amz-Target header."""
    body: bytes
    status: int
    answer: bytes

    @property
    def service(self) -> str:
        return {"DynamoDB_20120810": "dynamodb", "AmazonSQS": "sqs"}.get(
            self.target.partition(".")[0], self.target.partition(".")[0]
        )

    @property
    def action(self) -> str:
        return self.target.partition(".")[2]

    @property
    def order(self) -> float:
        """Where it stands among others: a poll counts when it brings something."""
        return self.ended if self.action == "ReceiveMessage" else self.begun


class Step(msgspec.Struct, frozen=True):
    """A request to make again: its body cut at the ids that have to be new.

    `pieces` has one more member than `slots`; `slots` name the ids by their place in the script.
    """

    service: str
    action: str
    pieces: tuple[str, ...]
    slots: tuple[str, ...]
    binary: bool
    """Whether it carries bytes, which JSON has as base64."""

    @property
    def method(self) -> str:
        """Botocore's name of the action."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.action).lower()

    def params(self, ids: Mapping[str, str]) -> Params:
        """What to ask, with `ids` in the slots."""
        text = self.pieces[0] + "".join(
            ids[slot] + piece for slot, piece in zip(self.slots, self.pieces[1:], strict=True)
        )
        params: Params = msgspec.json.decode(text)
        return cast("Params", with_bytes(params)) if self.binary else params


class Part(msgspec.Struct, frozen=True):
    """Steps that belong together, such as those of one request to our API."""

    steps: tuple[Step, ...]

    def fresh(self, mint: Mint) -> dict[str, str]:
        """New ids for every slot of the part."""
        slots = {slot for step in self.steps for slot in step.slots}
        return {slot: slot[:-FRESH_LENGTH] + mint() for slot in sorted(slots)}


def step(record: Record, moved: Mapping[str, str]) -> Step:
    """A record as a step; `moved` renames tables and queues to those of another stack."""
    text = record.body.decode()
    if _REPEATS in text:
        # botocore makes one for each transaction: repeated, it would be the same transaction.
        body = msgspec.json.decode(record.body)
        body.pop(_REPEATS, None)
        text = msgspec.json.encode(body).decode()
    for before, after in moved.items():
        text = text.replace(before, after)
    pieces = _FRESH.split(text)
    # split: text, id's head, id's tail, text, …
    return Step(
        record.service,
        record.action,
        tuple(pieces[0::3]),
        tuple(head + tail for head, tail in zip(pieces[1::3], pieces[2::3], strict=True)),
        '"B"' in text,
    )


def part(records: Sequence[Record], moved: Mapping[str, str]) -> Part:
    return Part(tuple(step(each, moved) for each in sorted(records, key=lambda each: each.order)))


def with_bytes(value: object) -> object:
    """`{"B": "<base64>"}` of the wire as botocore wants it: bytes."""
    if isinstance(value, list):
        return [with_bytes(each) for each in cast("list[object]", value)]
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        if members.keys() == {"B"} and isinstance(members["B"], str):
            return {"B": base64.b64decode(members["B"])}
        return {name: with_bytes(each) for name, each in members.items()}
    return value


def minting(seed: int) -> Mint:
    """Ends of ids that do not repeat, for one seed or for two."""
    numbers: Iterator[int] = itertools.count(seed << 48)

    def mint() -> str:
        number, digits = next(numbers), ""
        for _ in range(FRESH_LENGTH):
            number, digit = divmod(number, 32)
            digits = _ALPHABET[digit] + digits
        return digits

    return mint
