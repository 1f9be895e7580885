"""Groups: who is in them, who rules them, what they are called."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from sandbox.whatsapp.directory import User
from sandbox.whatsapp.jid import Jid, group

MAX_MEMBERS = 1024  # WhatsApp's own limit

Rank = Literal["member", "admin", "superadmin"]


@dataclass(eq=False)
class Group:
    jid: Jid
    subject: str
    creator: User
    created: int
    invite: str
    subject_by: User
    subject_at: int
    ranks: dict[User, Rank] = field(default_factory=dict[User, Rank])
    description: str = ""
    description_id: str = ""
    announcement: bool = False
    locked: bool = False
    version: int = 1

    def rules(self, user: User) -> bool:
        return self.ranks.get(user) in ("admin", "superadmin")


class Groups:
    def __init__(self) -> None:
        self._groups: dict[Jid, Group] = {}

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def create(self, subject: str, creator: User, now: int, invite: str) -> Group:
        jid = group(f"12036{len(self._groups) + 1:013d}")
        made = Group(jid, subject, creator, now, invite, creator, now)
        made.ranks[creator] = "superadmin"
        self._groups[jid] = made
        return made

    def get(self, jid: Jid | None) -> Group | None:
        return self._groups.get(jid) if jid is not None else None

    def members(self, jid: Jid) -> list[User]:
        """Everybody in a group, nobody if there is no such group."""
        found = self._groups.get(jid)
        return list(found.ranks) if found is not None else []

    def of(self, user: User) -> list[Group]:
        return [each for each in self if user in each.ranks]

    def by_invite(self, code: str) -> Group | None:
        return next((each for each in self if each.invite == code), None)
