"""When messages may go out."""

import asyncio

from gateway.host.clearance import Clearance


async def test_messages_wait_until_what_was_kept_is_read() -> None:
    """Connected and caught up, in either order; a lost connection begins anew."""
    clearance = Clearance()
    clearance.connected()
    assert not clearance.given.is_set()
    clearance.caught_up()
    assert clearance.given.is_set()
    clearance.dropped()
    assert not clearance.given.is_set()
    clearance.caught_up()
    assert not clearance.given.is_set()
    clearance.connected()
    assert clearance.given.is_set()
    clearance.dropped()


async def test_messages_do_not_wait_for_ever() -> None:
    """WhatsApp may not say that it has brought all; told twice of a login, nothing begins anew."""
    clearance = Clearance(limit=0.05)
    clearance.connected()
    clearance.connected()
    await asyncio.wait_for(clearance.given.wait(), 30)
    clearance.dropped()


async def test_a_lost_connection_is_not_cleared_later() -> None:
    """By a limit that ran on."""
    clearance = Clearance(limit=0.01)
    clearance.connected()
    clearance.dropped()
    await asyncio.sleep(0.05)
    clearance.connected()
    assert not clearance.given.is_set()
    clearance.dropped()
