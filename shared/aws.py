"""A request to AWS as a value: what to ask, how to read the answer, what a refusal means.

The store and the queues are written once, as functions that return an `Op`; the control plane runs
it with boto3, the gateway with aioboto3, each in one small file. So every request that either plane
can make is in `shared/store` and `shared/queue.py`, can be read and tested without a socket, and is
counted in one place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Self, TypeVar

from shared.env import Places

T = TypeVar("T")

Params = dict[str, Any]
Response = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A condition did not hold: the codes per item, and the items as they were if asked for."""

    codes: tuple[str, ...]
    items: tuple[Mapping[str, Any] | None, ...]

    @classmethod
    def of(cls, response: Response) -> Self | None:
        """From a ClientError's response; None for every error that is not a failed condition."""
        code = response.get("Error", {}).get("Code")
        if code == "ConditionalCheckFailedException":
            return cls((code,), (response.get("Item"),))
        if code == "TransactionCanceledException":
            reasons = response.get("CancellationReasons", [])
            codes = tuple(reason.get("Code", "None") for reason in reasons)
            if "ConditionalCheckFailed" in codes:
                return cls(codes, tuple(reason.get("Item") for reason in reasons))
        return None

    def item(self, index: int = 0) -> Mapping[str, Any] | None:
        """The item at `index` whose condition failed, if its old value was asked for."""
        return self.items[index] if index < len(self.items) else None

    def failed(self, index: int) -> bool:
        """Whether the condition of the item at `index` of a transaction was the one that failed."""
        return index < len(self.codes) and self.codes[index].startswith("ConditionalCheckFailed")


@dataclass(frozen=True, slots=True)
class Op(Generic[T]):
    """One request.

    `params` is bound to the table and queues when it runs. A refusal without `refused` is a defect
    of ours and is raised as the client's own error.
    """

    service: Literal["dynamodb", "sqs", "s3", "secretsmanager"]
    action: str
    """botocore's name of the method: `put_item`, `send_message`."""
    params: Callable[[Places], Params]
    decode: Callable[[Response], T]
    refused: Callable[[Refusal], T] | None = None


def done(_: Response) -> None:
    """The answer of a request that has none worth reading."""


CONFLICTS = frozenset({"TransactionConflictException", "TransactionInProgressException"})
"""Another transaction holds the item: nothing was written, try again at once (with jitter)."""


def conflicted(response: Response) -> bool:
    """Whether an error only says that another transaction was at the same items."""
    error = response.get("Error", {})
    if error.get("Code") in CONFLICTS:
        return True
    reasons = response.get("CancellationReasons", [])
    codes = {reason.get("Code", "None") for reason in reasons} - {"None"}
    return codes == {"TransactionConflict"}
