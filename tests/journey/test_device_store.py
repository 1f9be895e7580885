"""A number's credentials outlive the machine of its gateway, wherever they are kept."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from sandbox import story
from tests.journey.conftest import Product
from tests.postgres import DatabaseServer

Devices = Callable[[Product, DatabaseServer], Path | str]

_STORES: Final[dict[str, Devices]] = {
    "shared folder": lambda product, _: product.devices,
    "database": lambda _, postgres: postgres.database(),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", _STORES)
async def test_a_killed_gateways_number_goes_on_elsewhere(
    own_product: Product, postgres: DatabaseServer, tmp_path: Path, kind: str
) -> None:
    """Without pairing again, and both sides read each other's messages as before."""
    devices = _STORES[kind](own_product, postgres)
    machines = [tmp_path / "first machine", tmp_path / "second machine"]
    for machine in machines:
        machine.mkdir()
    async with own_product.cast() as cast:
        async with own_product.gateway(devices, TMPDIR=str(machines[0])) as first:
            await story.open_session(cast, "code")
            await story.link(cast, "code")
            await story.confirm(cast, await story.send(cast, "from the first"))
            await story.reply(cast, "to the first")
            first.process.kill()
            await first.process.wait()
        await cast.people.send(cast.contact, cast.owner, "to nobody")
        offers = [each.event["type"] for each in cast.receiver.seen].count("session.pairing")
        async with own_product.gateway(devices, TMPDIR=str(machines[1])):
            await cast.receiver.wait(
                lambda event: (
                    event["type"] == "message.received"
                    and event["data"]["content"].get("text") == "to nobody"
                ),
                "what came while there was no gateway",
            )
            await story.confirm(cast, await story.send(cast, "from the second"))
            await story.reply(cast, "to the second")
            types = [each.event["type"] for each in cast.receiver.seen]
            assert types.count("session.pairing") == offers
            assert "session.logged_out" not in types
        # It took with it what it had put there: nothing but the number's own store is needed.
        assert await asyncio.to_thread(lambda: list(machines[1].iterdir())) == []
