"""What deliveries are signed with, as the directory opens it."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.directory import Cache, Directory
from shared import sealing
from shared.errors import Forged
from shared.ids import EndpointId, TenantId
from shared.webhook import Endpoint, EndpointStatus, Retired, revoked, rotated

SEALS = (b"k" * 32,)
NO_AWS: Any = object()
"""Never asked: secrets come with the endpoint."""


def sealed(owner: str, secret: str) -> bytes:
    return sealing.seal(SEALS, owner, secret, b"n" * sealing.NONCE_BYTES)


BARE = Endpoint(
    id=EndpointId("ep_1"),
    tenant_id=TenantId("ten_1"),
    url="https://example.com",
    events=("*",),
    sealed_secret=b"",
    status=EndpointStatus.ENABLED,
    created_at=0,
    updated_at=0,
)
FRESH = msgspec.structs.replace(BARE, sealed_secret=sealed(BARE.owner, "whsec_0"))


def test_a_rotated_endpoint_is_signed_for_with_both_until_the_old_one_ends() -> None:
    """Newest first, to the millisecond, from the same remembered row."""
    directory = Directory(NO_AWS, SEALS, memory=1)
    row = rotated(FRESH, sealed(FRESH.owner, "whsec_1"), now=100, overlap=50)

    assert directory.secrets(FRESH, 0) == ("whsec_0",)
    assert directory.secrets(row, 100) == ("whsec_1", "whsec_0")
    assert directory.secrets(row, 149) == ("whsec_1", "whsec_0")
    assert directory.secrets(row, 150) == ("whsec_1",)
    assert directory.secrets(revoked(row), 100) == ("whsec_1",)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.one_of(st.none(), st.integers(0, 40))), max_size=12)
)
def test_nothing_expired_or_revoked_signs(steps: list[tuple[int, int | None]]) -> None:
    """Whatever was remembered before: rotations with their overlap, revocations (None), waits."""
    directory = Directory(NO_AWS, SEALS, memory=1)
    row, now = FRESH, 0
    until: dict[str, float] = {"whsec_0": float("inf")}
    for number, (passed, overlap) in enumerate(steps, start=1):
        now += passed
        newest = directory.secrets(row, now)[0]
        if overlap is None:
            row = revoked(row)
            until = {newest: float("inf")}
        else:
            until[newest] = now + overlap
            until[f"whsec_{number}"] = float("inf")
            row = rotated(row, sealed(row.owner, f"whsec_{number}"), now, overlap)
        live = {secret for secret, end in until.items() if now < end}
        assert set(directory.secrets(row, now)) == live


def test_a_former_secret_that_cannot_be_read_is_said() -> None:
    """Leaving its signature out would be refused by receivers without anybody knowing why."""
    directory = Directory(NO_AWS, SEALS, memory=1)
    row = msgspec.structs.replace(FRESH, retired=(Retired(sealed=b"x" * 40, until=9),))

    with pytest.raises(Forged):
        directory.secrets(row, 8)
    assert directory.secrets(row, 9) == ("whsec_0",)


async def test_an_answer_that_takes_long_is_not_given_to_who_asks_later() -> None:
    """It may be as old as its question: what was changed since must be seen."""
    answers: list[asyncio.Future[str]] = []
    now = 0.0

    def fetch(_: str) -> asyncio.Future[str]:
        answers.append(asyncio.get_running_loop().create_future())
        return answers[-1]

    cache = Cache[str, str](fetch, 1.0, lambda: now)
    early = asyncio.ensure_future(cache.get("key"))
    await asyncio.sleep(0)
    beside = asyncio.ensure_future(cache.get("key"))
    await asyncio.sleep(0)
    now = 1.0
    late = asyncio.ensure_future(cache.get("key"))
    await asyncio.sleep(0)
    assert len(answers) == 2
    answers[1].set_result("new")
    assert await late == "new"
    answers[0].set_result("old")
    assert (await early, await beside) == ("old", "old")
    assert await cache.get("key") == "new"


async def test_all_who_wait_for_one_answer_can_be_cancelled_at_once() -> None:
    """Who asked for all is cancelled first: the others must not take that for their own way out."""

    async def never(_: str) -> None:
        await asyncio.Event().wait()

    cache = Cache(never, seconds=60)
    waiting = [asyncio.ensure_future(cache.get("tenant")) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for each in waiting:
        each.cancel()
    done, left = await asyncio.wait(waiting, timeout=30)
    assert not left
    assert all(each.cancelled() for each in done)
