"""What was accepted is not lost, and nothing is doubled in silence, whatever dies."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sandbox import story
from sandbox.processes import Plane
from shared import clock, commands, ids
from shared.commands import StopSession
from shared.ids import CommandId, SessionId, TenantId
from shared.keyring import Keyring
from tests.journey.conftest import Product, children

PATIENCE = 30.0


async def until(fact: Callable[[], Awaitable[bool]], what: str, within: float = PATIENCE) -> None:
    """Wait for a fact. Raises TimeoutError that names it."""
    try:
        async with asyncio.timeout(within):
            while not await fact():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise TimeoutError(f"not seen in {within:g} s: {what}") from None


def alive(pids: list[int]) -> bool:
    """Whether any of these processes is more than an entry that waits to be reaped."""
    return any(
        (stat := Path(f"/proc/{pid}/stat")).exists()
        and stat.read_text().rpartition(")")[2].split()[0] != "Z"
        for pid in pids
    )


def hosts(gateway: Plane) -> list[int]:
    """The session hosts below a gateway: its grandchildren, behind the zygote."""
    return [host for zygote in children(gateway.process.pid) for host in children(zygote)]


async def _link(product: Product, cast: story.Cast) -> None:
    await story.open_session(cast, "code")
    await story.link(cast, "code")


async def _accept(cast: story.Cast, text: str, **how: Any) -> str:
    body = {"to": cast.contact, "text": text, **how}
    message = await cast.api.ok("POST", f"{cast.session}/messages", body)
    return message["id"]


async def _settled(cast: story.Cast, message_id: str) -> str | None:
    """A message's status once it is out of the queue."""
    message = await cast.api.ok("GET", f"{cast.session}/messages/{message_id}")
    return None if message["status"] == "queued" else message["status"]


async def test_a_gateway_is_replaced_without_pairing_again(own_product: Product) -> None:
    """What is accepted while no gateway runs goes out with the next; what came in arrives."""
    async with own_product.cast() as cast:
        async with own_product.gateway():
            await _link(own_product, cast)
        message_id = await _accept(cast, "between two gateways")
        await cast.people.send(cast.contact, cast.owner, "anybody there?")
        async with own_product.gateway():
            await story.hear(cast, "between two gateways")
            await story.confirm(cast, message_id)
            await cast.receiver.wait(
                lambda event: (
                    event["type"] == "message.received"
                    and event["data"]["content"].get("text") == "anybody there?"
                ),
                "what came in between",
            )


async def test_killing_the_gateway_loses_and_doubles_nothing(own_product: Product) -> None:
    """SIGKILL in the middle of sending: every message is out once, or said to be uncertain."""
    async with own_product.cast() as cast:
        async with own_product.gateway() as first:
            await _link(own_product, cast)
            texts = [f"burst {n}" for n in range(12)]
            accepted = {text: await _accept(cast, text) for text in texts}
            await story.hear(cast, texts[2])
            first.process.kill()
            await first.process.wait()
        async with own_product.gateway():

            async def all_settled() -> bool:
                return None not in [await _settled(cast, each) for each in accepted.values()]

            await until(all_settled, "every message out of the queue")
            status = {text: await _settled(cast, each) for text, each in accepted.items()}
            certain = [text for text in texts if status[text] != "uncertain"]
            for text in certain:
                assert status[text] in {"sent", "delivered", "read"}
                await cast.people.wait_for_text(cast.contact, text)

            heard = Counter(each.text for each in await cast.people.received(cast.contact))
            assert all(heard[text] == 1 for text in certain)
            assert all(heard[text] <= 1 for text in texts)


async def test_a_frozen_gateway_keeps_no_device(own_product: Product) -> None:
    """Its hosts are gone before the next gateway has one, and come back only by a hand-over."""
    async with own_product.cast() as cast, own_product.gateway() as frozen:
        await _link(own_product, cast)
        os.kill(frozen.process.pid, signal.SIGSTOP)
        try:
            async with own_product.gateway() as other:

                async def passed_on() -> bool:
                    owners = [each for each in (frozen, other) if alive(hosts(each))]
                    assert len(owners) < 2
                    return owners == [other]

                await until(passed_on, "the other gateway's host")
                await story.confirm(cast, await story.send(cast, "from the other"))
                os.kill(frozen.process.pid, signal.SIGCONT)
                await story.confirm(cast, await story.send(cast, "and once more"))
                # It has its share of the shards again, the session's perhaps among them.
                for _ in range(20):
                    assert not (alive(hosts(frozen)) and alive(hosts(other)))
                    await asyncio.sleep(0.1)
                types = [each.event["type"] for each in cast.receiver.seen]
                assert "session.failed" not in types
        finally:
            os.kill(frozen.process.pid, signal.SIGCONT)


async def test_killing_a_host_brings_it_back(own_product: Product) -> None:
    """SIGKILL of the process that holds the socket: it is started again, and works."""
    async with own_product.cast() as cast, own_product.gateway() as gateway:
        await _link(own_product, cast)
        (host,) = hosts(gateway)
        os.kill(host, signal.SIGKILL)
        await cast.receiver.typed("session.reconnecting")
        await story.confirm(cast, await story.send(cast, "from the next host"))

        assert hosts(gateway) != [host]


async def test_killing_the_zygote_brings_all_back(own_product: Product) -> None:
    """Even the process that forks the hosts may die."""
    async with own_product.cast() as cast, own_product.gateway() as gateway:
        await _link(own_product, cast)
        (zygote,) = children(gateway.process.pid)
        os.kill(zygote, signal.SIGKILL)
        await story.confirm(cast, await story.send(cast, "from the next zygote"))


async def test_a_stopped_gateway_leaves_no_process(own_product: Product) -> None:
    """After SIGTERM the gateway, its zygote and its hosts are gone, with exit code 0."""
    async with own_product.cast() as cast:
        async with own_product.gateway() as gateway:
            await _link(own_product, cast)
            family = [*children(gateway.process.pid), *hosts(gateway)]
        assert gateway.process.returncode == 0
        assert len(family) == 2
        assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []


async def test_a_message_that_waited_too_long_fails(own_product: Product) -> None:
    """`expires_in` keeps a one-time password from arriving late."""
    async with own_product.cast() as cast:
        async with own_product.gateway():
            await _link(own_product, cast)
        message_id = await _accept(cast, "your code is 1234", expires_in=1)

        async def over() -> bool:
            message = await cast.api.ok("GET", f"{cast.session}/messages/{message_id}")
            return clock.millis() > clock.moment(datetime.fromisoformat(message["expires_at"]))

        await until(over, "the message's expiry")
        async with own_product.gateway():
            failed = await cast.receiver.typed("message.failed")
            assert failed.event["data"]["failure"]["code"] == "expired"
            await story.send(cast, "the next")
        heard = [each.text for each in await cast.people.received(cast.contact)]
        assert heard == ["the next"]


async def test_orders_that_are_not_ours_are_parked(own_product: Product) -> None:
    """Forged, and well signed for a session of somebody else: refused, kept, harmless."""
    async with own_product.cast() as cast, own_product.gateway():
        await _link(own_product, cast)
        other, _ = await own_product.tenant("Other")
        session = await cast.api.ok("GET", cast.session)
        keyring = Keyring.parse(own_product.tables.environment["ZAPGATE_SECRET"])
        foreign = commands.encode(
            keyring.commands,
            StopSession(
                id=CommandId(clock.mint(ids.COMMAND)),
                tenant_id=TenantId(other),
                session_id=SessionId(cast.session_id),
                issued_at=clock.millis(),
                expires_at=clock.millis() + clock.HOUR,
            ),
        )
        forged = foreign[:-4] + "AAAA"
        url = own_product.tables.environment["ZAPGATE_COMMAND_QUEUE_URL"]
        # Sessions tell no shard over the API: the row does.
        (row,) = [
            row for row in own_product.rows(cast.session_id) if row["SK"]["S"].startswith("SESSION")
        ]
        sqs = own_product.aws.client("sqs")
        for text in (forged, foreign):
            sqs.send_message(
                QueueUrl=url.replace("{shard}", row["shard"]["N"]),
                MessageBody=text,
                MessageGroupId=cast.session_id,
                MessageDeduplicationId=text[-40:],
            )

        async def parked() -> bool:
            return set(await asyncio.to_thread(own_product.dead_commands)) >= {forged, foreign}

        await until(parked, "both commands on the dead-letter queue")
        assert session["state"] == "connected"
        await story.confirm(cast, await story.send(cast, "still here"))


async def test_a_receiver_that_was_wrong_gets_the_same_event_again(own_product: Product) -> None:
    """A refused webhook is tried again under the same webhook-id."""
    async with own_product.cast() as cast, own_product.gateway():
        secret, cast.receiver.secret = cast.receiver.secret, None
        await story.open_session(cast, "code")

        async def refused() -> bool:
            return bool(cast.receiver.seen)

        await until(refused, "a webhook that was answered 401")
        cast.receiver.secret = secret
        again = await cast.receiver.typed("session.starting")

        assert [each.verified for each in cast.receiver.seen if each.id == again.id] == [
            False,
            True,
        ]


@pytest.mark.timeout(150)
async def test_a_deleted_tenant_leaves_no_row(own_product: Product) -> None:
    """Its keys stop at once; then sessions, messages, events, deliveries and keys are gone."""
    async with own_product.gateway(), own_product.cast() as cast:
        await _link(own_product, cast)
        await story.confirm(cast, await story.send(cast, "soon forgotten"))
        session = await cast.api.ok("GET", cast.session)
        (row,) = [
            row for row in own_product.rows(cast.session_id) if row["SK"]["S"].startswith("SESSION")
        ]
        tenant = row["tenant_id"]["S"]
        await own_product.operator.ok("DELETE", f"/v1/tenants/{tenant}")
        assert session["state"] == "connected"
        assert (await cast.api.call("GET", cast.session)).status == 401

        async def erased() -> bool:
            return await asyncio.to_thread(own_product.rows, tenant) == []

        # A request that was let in just before may write a row for most of a minute.
        await until(erased, "every row of the tenant erased", within=100)
        assert list(own_product.devices.rglob(f"*{tenant}*/*")) == []
