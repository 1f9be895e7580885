"""Permits of one tenant, asked for by many threads of a process at once."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from control_plane.limits import FIRST_CHUNK, Limiter, Standing
from shared import clock
from shared.aws import Op
from shared.env import Places
from shared.errors import Unavailable
from shared.ids import TenantId
from tests.control_plane.waiting import until

TENANT = TenantId("ten_x")
THREADS = 32


class Table:
    """Counts permits; its first answer comes when every thread is waiting for one."""

    def __init__(self, limit: int, *, faulty: bool = False) -> None:
        self.limiter = Limiter(self, limit)
        self.chunks: list[int] = []
        self.faulty = faulty
        self._asking = 0

    def run(self, op: Op[Any]) -> Any:
        self._asking += 1
        assert self._asking == 1, "two chunks were asked for at a time"
        values = op.params(Places(table="t"))["ExpressionAttributeValues"]
        self.chunks.append(int(values[":amount"]["N"]))
        until(lambda: len(self.chunks) > 1 or self.limiter.wanting[TENANT] >= THREADS)
        self._asking -= 1
        if self.faulty:
            raise Unavailable(op.service, op.action, "test")
        return op.decode({"Attributes": {"used": {"N": str(sum(self.chunks))}}})

    def rush(self) -> list[Future[Standing]]:
        """Requests of every thread, none of which finds a permit at hand."""
        with ThreadPoolExecutor(THREADS) as pool:
            return [
                pool.submit(self.limiter.take, TENANT, None, clock.MINUTE) for _ in range(THREADS)
            ]


@pytest.mark.parametrize("limit", [6_000, THREADS])
def test_a_rush_takes_what_it_needs_and_no_more(limit: int) -> None:
    """One asks for all: two writes serve thirty-two requests, and few permits are left."""
    table = Table(limit)

    assert all(each.result().allowed for each in table.rush())
    assert len(table.chunks) == 2
    assert THREADS <= sum(table.chunks) <= THREADS + FIRST_CHUNK


def test_a_rush_over_the_limit_is_refused_beyond_it() -> None:
    """As many as may are let in, and the others are told so without a write of their own."""
    table = Table(5)
    standings = [each.result() for each in table.rush()]

    assert sum(each.allowed for each in standings) == 5
    assert len(table.chunks) == 2


def test_a_table_that_does_not_answer_is_waited_for_once() -> None:
    """Whoever waits for the one who asked hears of it with them, and the next asks anew."""
    table = Table(6_000, faulty=True)

    for each in table.rush():
        assert isinstance(each.exception(), Unavailable)
    assert len(table.chunks) == 1
    table.faulty = False
    assert table.limiter.take(TENANT, None, clock.MINUTE).allowed
    assert not table.limiter.wanting
