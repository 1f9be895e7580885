"""The control API: what it refuses and how, and what simulated people do among themselves."""

from typing import Any

import aiohttp
import pytest

from sandbox.network import Network
from sandbox.whatsapp import control_types as faults
from sandbox.whatsapp.control_client import ControlClient, ControlError, TooLateError

ANNA, BEN, CARLA = "+4915123456789", "+5511987654321", "+14155550123"
QR = "https://wa.me/settings/linked_devices#ref," + ",".join(["A" * 43 + "="] * 3) + ",1"


@pytest.mark.parametrize(
    ("asked", "body", "status"),
    [
        ("POST /people", {"number": "4915123456789", "push_name": "x"}, 422),
        ("POST /people", {"number": "+0123456789", "push_name": "x"}, 422),
        ("POST /people", {"number": BEN, "push_name": ""}, 400),
        ("POST /people", {"number": BEN}, 400),
        ("POST /people", {"number": BEN, "push_name": "x", "colour": "red"}, 400),
        ("POST /people", {"number": ANNA, "push_name": "again"}, 409),
        ("POST /people", None, 400),
        (f"GET /people/{BEN}", None, 404),
        ("GET /people/anna", None, 422),
        (f"GET /people/{ANNA}/received?after=x", None, 400),
        (f"GET /people/{ANNA}/messages/none", None, 404),
        (f"POST /people/{ANNA}/scan", {"qr": "no code"}, 422),
        (f"POST /people/{ANNA}/scan", {"qr": QR}, 404),
        (f"POST /people/{ANNA}/code", {"code": "short"}, 422),
        (f"POST /people/{ANNA}/code", {"code": "ABCD-EFGH"}, 404),
        (f"POST /people/{ANNA}/messages", {"to": BEN, "text": "hi"}, 404),
        (f"POST /people/{ANNA}/messages", {"to": ANNA, "text": ""}, 400),
        (f"POST /people/{ANNA}/messages", {"to": "1@g.us", "text": "hi"}, 404),
        (f"POST /people/{ANNA}/messages", {"to": "nonsense", "text": "hi"}, 422),
        (f"POST /people/{ANNA}/read", {"ids": ["none"]}, 404),
        (f"DELETE /people/{ANNA}/devices/0", None, 404),
        (f"DELETE /people/{ANNA}/devices/x", None, 404),
        (f"POST /people/{ANNA}/faults", {"kind": "earthquake"}, 400),
        (f"POST /people/{ANNA}/faults", {"kind": "fail_login", "reason": 413}, 422),
        (f"POST /people/{ANNA}/faults", {"kind": "fail_login", "reason": 414}, 422),
        (f"POST /people/{ANNA}/faults", {"kind": "fail_login", "reason": 1}, 400),
        ("POST /groups", {"subject": "x", "creator": ANNA, "members": [BEN]}, 404),
        ("GET /nowhere", None, 404),
        ("PUT /people", None, 405),
    ],
)
async def test_what_cannot_be_done_is_a_problem(
    network: Network, control: ControlClient, asked: str, body: Any, status: int
) -> None:
    """Every refusal is a problem of RFC 9457 with the status in its body, and never a 5xx."""
    await control.create_person(ANNA, "Anna")
    method, path = asked.split()
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, network.control_url + path, json=body) as answer,
    ):
        assert answer.status == status
        assert answer.content_type == "application/problem+json"
        problem = await answer.json()
    assert problem["status"] == status
    assert problem["detail"]


async def test_people_write_to_each_other(control: ControlClient) -> None:
    """Contacts are whole people: what one sends another reads, echoes and receipts."""
    await control.create_person(ANNA, "Anna")
    await control.create_person(BEN, "Ben", reply="echo", reads=True, addressing="pn")
    sent = await control.send(ANNA, BEN, "anybody there?")
    seen = await control.sent(ANNA, sent.id, until="read", wait=5)
    assert (seen.delivered, seen.read) == (True, True)
    echo = await control.wait_for_text(ANNA, "anybody there?", wait=5)
    assert (echo.sender, echo.push_name, echo.chat) == (BEN, "Ben", BEN)
    for number in range(3):
        await control.send(ANNA, BEN, f"text {number}")
    texts = [message.text for message in await control.received(BEN)]
    assert texts == ["anybody there?", "text 0", "text 1", "text 2"]
    assert [each.text for each in await control.received(BEN, after=1)] == texts[2:]


async def test_receipts_are_sent_as_told(control: ControlClient) -> None:
    """A person that gives no receipts gives none until it is told to."""
    await control.create_person(ANNA, "Anna")
    await control.create_person(BEN, "Ben", delivers=False)
    sent = await control.send(ANNA, BEN, "hello")
    message = await control.wait_for_text(BEN, "hello", wait=5)
    assert not (await control.sent(ANNA, sent.id)).delivered
    await control.mark_read(BEN, message.id)
    assert (await control.sent(ANNA, sent.id, until="read", wait=5)).read


async def test_a_spoilt_message_between_people_is_repaired(control: ControlClient) -> None:
    """Who cannot read asks again, in a chat and in a group; the text arrives once."""
    for number, name in ((ANNA, "Anna"), (BEN, "Ben"), (CARLA, "Carla")):
        await control.create_person(number, name)
    group = await control.create_group("Three", ANNA, [BEN, CARLA])
    assert group.members == [ANNA, BEN, CARLA]
    for chat in (BEN, group.jid):
        await control.fault(BEN, faults.Garble(times=2))
        await control.send(ANNA, chat, f"to {chat}")
        await control.wait_for_text(BEN, f"to {chat}", wait=5)
    assert len(await control.received(BEN)) == 2
    assert (await control.person(BEN)).undecryptable == 0
    await control.wait_for_text(CARLA, f"to {group.jid}", wait=5)


async def test_who_left_whatsapp_cannot_be_written_to(control: ControlClient) -> None:
    """A number that is not registered is a conflict, and comes back when it is."""
    await control.create_person(ANNA, "Anna")
    await control.create_person(BEN, "Ben", registered=False)
    with pytest.raises(ControlError) as refused:
        await control.send(ANNA, BEN, "hello")
    assert refused.value.problem.status == 409
    await control.change_person(BEN, registered=True)
    await control.send(ANNA, BEN, "hello again")
    await control.wait_for_text(BEN, "hello again", wait=5)


async def test_waiting_ends(control: ControlClient) -> None:
    """A question stays open as long as it says and no longer."""
    await control.create_person(ANNA, "Anna")
    assert await control.received(ANNA, wait=0.05) == []
    with pytest.raises(TooLateError):
        await control.wait_for_text(ANNA, "never", wait=0.05)
    health = await control.health()
    assert (health.people, health.connections, health.pairings) == (1, 0, 0)
    assert await control.connections() == await control.pairings() == []
    assert [person.number for person in await control.people()] == [ANNA]
