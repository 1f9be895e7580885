"""The main job, whole: link, send, receive, be told."""

import asyncio
from typing import Any

import pytest

from sandbox import story
from sandbox.api import Api
from sandbox.whatsapp import control_types as faults
from tests.journey.conftest import Product, some_number


@pytest.mark.parametrize("pairing", ["code", "qr"])
async def test_a_number_is_linked_and_both_sides_hear_each_other(
    product: Product, pairing: story.Pairing
) -> None:
    """Tenant, session, pairing, message out, receipts, reply, stop: each is seen and signed."""
    async with product.cast() as cast:
        await story.open_session(cast, pairing)
        await story.link(cast, pairing)
        message_id = await story.send(cast, "hello 👋 \u0645\u0631\u062d\u0628\u0627")
        await story.confirm(cast, message_id)
        await story.reply(cast, "hello\nyourself")
        await story.stop(cast)

        assert await story.judge(cast) >= 6


async def test_a_session_s_events_count_up_without_a_gap(product: Product) -> None:
    """Sequences run from 1; the log over the API holds what the webhooks brought."""
    async with product.connected() as cast:
        await story.confirm(cast, await story.send(cast, "count me"))
        page = await cast.api.ok("GET", f"/v1/events?session_id={cast.session_id}&limit=100")
        sequences = sorted(event["sequence"] for event in page["data"])

        assert sequences == list(range(1, len(sequences) + 1))
        told = {each.id for each in cast.receiver.seen}
        assert told <= {event["id"] for event in page["data"]}


async def test_a_receiver_that_was_down_catches_up(product: Product) -> None:
    """The log has every event of a session in order, and what the webhooks brought besides."""
    async with product.connected() as cast:
        await story.confirm(cast, await story.send(cast, "before"))
        begun = await cast.api.ok("GET", f"/v1/event-log?session_id={cast.session_id}&limit=1")
        await story.reply(cast, "meanwhile")
        await story.stop(cast)
        stopped = await cast.receiver.typed("session.stopped")
        session = await cast.api.ok("GET", f"/v1/events?session_id={cast.session_id}&limit=100")
        log, after = list[Any](begun["data"]), begun["next_cursor"]
        async with asyncio.timeout(story.PATIENCE):
            while stopped.id not in [event["id"] for event in log]:
                path = f"/v1/event-log?limit=7&after={after}"
                part = await cast.api.ok("GET", path, Prefer="wait=20")
                log, after = log + part["data"], part["next_cursor"]

        assert [event["sequence"] for event in log] == list(range(1, len(log) + 1))
        assert log == session["data"][::-1]
        assert {each.id for each in cast.receiver.seen} == {event["id"] for event in log}


async def test_one_idempotency_key_is_one_message(product: Product) -> None:
    """Repeated, the same request is answered the same and received once; another body is 422."""
    async with product.connected() as cast:
        path = f"{cast.session}/messages"
        body = {"to": cast.contact, "text": "only once"}
        first = await cast.api.call("POST", path, body, Idempotency_Key="k1")
        again = await cast.api.call("POST", path, body, Idempotency_Key="k1")
        other = await cast.api.call("POST", path, {**body, "text": "x"}, Idempotency_Key="k1")

        assert (first.status, again.status, other.status) == (202, 202, 422)
        assert first.json["id"] == again.json["id"]
        await story.confirm(cast, first.json["id"])
        await story.send(cast, "after it")
        texts = [each.text for each in await cast.people.received(cast.contact)]
        assert texts == ["only once", "after it"]


async def test_messages_keep_their_order(product: Product) -> None:
    """What is accepted one after the other arrives one after the other."""
    async with product.connected() as cast:
        texts = [f"number {n}" for n in range(20)]
        for text in texts:
            body = {"to": cast.contact, "text": text}
            await cast.api.ok("POST", f"{cast.session}/messages", body)
        await cast.people.wait_for_text(cast.contact, texts[-1])

        assert [each.text for each in await cast.people.received(cast.contact)] == texts


async def _failure(cast: story.Cast, to: str) -> str:
    message = await cast.api.ok(
        "POST", f"{cast.session}/messages", {"to": to, "text": "?"}, Prefer="wait=20"
    )
    assert message["status"] == "failed"
    told = await cast.receiver.wait(
        lambda event: (
            event["type"] == "message.failed" and event["data"]["message_id"] == message["id"]
        ),
        "message.failed",
    )
    assert told.event["data"]["failure"] == message["failure"]
    return message["failure"]["code"]


async def test_a_number_without_whatsapp_is_a_failure_that_says_so(product: Product) -> None:
    """The message fails with a code, not with silence."""
    async with product.connected() as cast:
        stranger = some_number()
        await cast.people.create_person(stranger, "Nobody", registered=False)

        assert await _failure(cast, stranger) == "not_on_whatsapp"


@pytest.mark.parametrize(("code", "means"), [(463, "reachout_limited"), (475, "new_chats_capped")])
async def test_whatsapp_s_refusals_have_names(product: Product, code: int, means: str) -> None:
    """A refusal by number becomes a typed failure."""
    async with product.connected() as cast:
        await cast.people.fault(cast.owner, faults.Nack(code))

        assert await _failure(cast, cast.contact) == means


async def test_a_device_removed_on_the_phone_is_logged_out(product: Product) -> None:
    """A webhook gives the reason; sending is then refused with what to do."""
    async with product.connected() as cast:
        await cast.people.fault(cast.owner, faults.LogOut())
        told = await cast.receiver.typed("session.logged_out")

        assert told.event["data"]["reason"] == "removed_on_phone"
        refused = await cast.api.call(
            "POST", f"{cast.session}/messages", {"to": cast.contact, "text": "?"}
        )
        assert refused.status == 409
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert "logged_out" in refused.content.decode()


async def test_a_dropped_connection_comes_back_by_itself(product: Product) -> None:
    """After a cut the session reconnects, and what came meanwhile is delivered."""
    async with product.connected() as cast:
        await cast.people.fault(cast.owner, faults.Drop())
        await cast.receiver.typed("session.reconnecting")
        await story.reply(cast, "while you were out")
        await story.confirm(cast, await story.send(cast, "back again"))


async def _gone(api: Api, path: str) -> None:
    answer = await api.call("GET", path)
    assert answer.status == 404


async def test_a_deleted_session_leaves_nothing(product: Product) -> None:
    """Rows, credentials and the linked device are gone."""
    async with product.cast() as cast:
        await story.open_session(cast, "code")
        await story.link(cast, "code")
        await story.confirm(cast, await story.send(cast, "forget me"))
        await cast.api.ok("DELETE", cast.session, Prefer="wait=20")

        await _gone(cast.api, cast.session)
        assert product.rows(cast.session_id) == []
        assert list(product.devices.rglob(f"*{cast.session_id}*")) == []
        assert await cast.people.devices(cast.owner) == []
