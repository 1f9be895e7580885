"""A chain of message keys: each link gives one message its key, and the next link.

Sessions between two devices and sender keys of groups use the same chain; they differ in what they
derive from a link's seed. Messages arrive in any order, so the receiving end keeps the seeds of the
links it had to step over (Signal, "The Double Ratchet Algorithm", revision 4, section 2.6).
"""

from typing import Self

import msgspec

from sandbox.whatsapp.signal_errors import DuplicateMessageError, TooFarAheadError
from sandbox.whatsapp.symmetric import hmac_sha256

MAX_SKIPPED = 2000
"""Links one message may step over, and seeds kept of one chain: as many as Signal's libraries."""


class Chain(msgspec.Struct, frozen=True):
    """A link: its 32-byte key, and how many links came before it."""

    key: bytes
    index: int = 0

    def seed(self) -> bytes:
        """Return the 32 bytes from which the keys of message number `index` are derived."""
        return hmac_sha256(self.key, b"\x01")

    def following(self) -> Self:
        """Return the next link."""
        return type(self)(hmac_sha256(self.key, b"\x02"), self.index + 1)

    def until(self, number: int) -> tuple[Self, dict[int, bytes]]:
        """Return link `number`, and the seeds of the links on the way to it, by number."""
        link, seeds = self, dict[int, bytes]()
        while link.index < number:
            seeds[link.index] = link.seed()
            link = link.following()
        return link, seeds


class ReceivingChain(msgspec.Struct, frozen=True):
    """The link expected next, and the seeds of messages that have not come yet, oldest first."""

    link: Chain
    skipped: dict[int, bytes] = {}

    def take(self, number: int) -> tuple[Self, bytes]:
        """Return the seed of message `number`, and the chain without it.

        Raises:
            DuplicateMessageError: the seed was taken before, or dropped to make room.
            TooFarAheadError: it lies more than MAX_SKIPPED links ahead.
        """
        if number < self.link.index:
            if number not in self.skipped:
                raise DuplicateMessageError(f"the key of message {number} is used up")
            others = {n: seed for n, seed in self.skipped.items() if n != number}
            return type(self)(self.link, others), self.skipped[number]
        if number - self.link.index > MAX_SKIPPED:
            raise TooFarAheadError(f"message {number} came when {self.link.index} was next")
        link, passed = self.link.until(number)
        skipped = {**self.skipped, **passed}
        for oldest in list(skipped)[: max(0, len(skipped) - MAX_SKIPPED)]:
            del skipped[oldest]
        return type(self)(link.following(), skipped), link.seed()
