"""The installation's keys, all derived from one master secret.

One secret to create, guard and rotate: each purpose gets its own key by HMAC-SHA256(master,
purpose), so no key can be used for another's job. During a rotation the previous masters stay
listed: the first signs and seals, all verify and open.
"""

import hashlib
import hmac
from typing import Self

import msgspec

from shared import apikey
from shared.errors import Misconfigured

_SHORTEST = 32
"""Characters a master needs at the least, so that it cannot be a word."""


class _Masters(msgspec.Struct, frozen=True):
    master: str
    previous: tuple[str, ...] = ()


class Keyring(msgspec.Struct, frozen=True):
    """Derived keys, newest first in each list."""

    commands: tuple[bytes, ...]
    cursors: tuple[bytes, ...]
    peppers: tuple[bytes, ...]
    seals: tuple[bytes, ...]
    operator_keys: tuple[str, ...]
    """The operator's API keys: whoever may read the master may be the operator."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the secret's JSON. Raises Misconfigured without repeating what it read."""
        try:
            masters = msgspec.json.decode(text, type=_Masters)
        except msgspec.DecodeError:
            raise Misconfigured(
                'the secret is not JSON of the form {"master": "…", "previous": ["…"]}'
            ) from None
        every = (masters.master, *masters.previous)
        if any(len(master) < _SHORTEST for master in every):
            raise Misconfigured(f"a master secret is shorter than {_SHORTEST} characters")
        return cls(
            commands=_derived(every, "zapgate.commands"),
            cursors=_derived(every, "zapgate.cursors"),
            peppers=_derived(every, "zapgate.api-keys"),
            seals=_derived(every, "zapgate.seals"),
            operator_keys=tuple(
                apikey.mint(key, apikey.OPERATOR_PREFIX)
                for key in _derived(every, "zapgate.operator")
            ),
        )


def _derived(masters: tuple[str, ...], purpose: str) -> tuple[bytes, ...]:
    return tuple(
        hmac.new(master.encode(), purpose.encode(), hashlib.sha256).digest() for master in masters
    )
