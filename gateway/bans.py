"""Bans that end by themselves: which sessions wait for it, and when each is started again.

WhatsApp says how long a ban lasts, and refuses every login until then; so none is tried before,
and those that were banned together do not come back together.
"""

from collections.abc import Callable
from typing import Final

from shared import clock
from shared.ids import SessionId
from shared.session import Session, ban_ends

SHORTEST: Final = clock.MINUTE
"""What a ban lasts at the least, from when it was seen, whatever WhatsApp says of it."""
JITTER: Final = clock.MINUTE
"""By how much a session starts later than its ban ends, at the most."""


def resumes_at(ends: int, seen: int, chance: float) -> int:
    """When a session is started whose ban was seen at one time and ends at another (ms).

    `chance` is uniform in [0, 1).
    """
    return max(ends, seen + SHORTEST) + round(chance * JITTER)


class Bans:
    """The sessions of held shards that wait for the end of their ban."""

    def __init__(self, chance: Callable[[], float]) -> None:
        """`chance` is uniform in [0, 1)."""
        self._chance = chance
        self._waiting: dict[SessionId, tuple[int, Session]] = {}

    def heed(self, session: Session) -> None:
        """Remember when a session's ban ends, or forget it where it has none."""
        ends = ban_ends(session)
        if ends is None:
            self._waiting.pop(session.id, None)
        else:
            at = resumes_at(ends, session.updated_at, self._chance())
            self._waiting[session.id] = at, session

    def forget(self, session_id: SessionId) -> None:
        """It was started, or is gone."""
        self._waiting.pop(session_id, None)

    def leave(self, shard: int) -> None:
        """Forget the sessions of a shard: whoever holds it next reads them from the table."""
        for each in [key for key, (_, one) in self._waiting.items() if one.shard == shard]:
            del self._waiting[each]

    def over(self, now: int) -> list[Session]:
        """Whose time has come, the longest waiting first."""
        come = sorted((at, key) for key, (at, _) in self._waiting.items() if at <= now)
        return [self._waiting[key][1] for _, key in come]
