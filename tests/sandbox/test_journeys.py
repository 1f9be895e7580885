"""Whole journeys of an unmodified neonize through the sandbox's WhatsApp."""

import asyncio
from collections.abc import Callable

import pytest

from sandbox.whatsapp import control_types as faults
from sandbox.whatsapp.control_client import ControlClient, ControlError
from tests.sandbox.harness import Event, NeonizeClient, NeonizeStarter, eventually

OWNER, CONTACT, OTHER = "+5511987654321", "+4915123456789", "+14155550123"


async def link(client: NeonizeClient, control: ControlClient) -> None:
    """Make an owner and a contact up, and link the client to the owner."""
    await control.create_person(OWNER, "Owner")
    await control.create_person(CONTACT, "Contact")
    qr = await client.until("qr")
    await control.scan(OWNER, qr["text"])
    await client.until("Connected")


async def _no_devices(control: ControlClient) -> bool:
    return not await control.devices(OWNER)


async def _nothing_pending(control: ControlClient) -> bool:
    return all(device.pending == 0 for device in await control.devices(OWNER))


async def _announces(client: NeonizeClient) -> bool:
    return await client.do("presence", available=True) is None


def is_about(event: Event, group: str) -> bool:
    return f"{event['GroupInfo']['JID']['User']}@g.us" == group


def is_receipt(kind: str, message_id: str) -> Callable[[Event], bool]:
    return lambda event: event["Type"] == kind and message_id in event["MessageIDs"]


async def receive(client: NeonizeClient, text: str) -> Event:
    def fits(event: Event) -> bool:
        message = event["Message"]
        return text in (
            message.get("conversation"),
            message.get("extendedTextMessage", {}).get("text"),
        )

    return await client.until("Message", fits)


async def test_linking_by_code_survives_a_wrong_code(
    client: NeonizeClient, control: ControlClient
) -> None:
    """A wrong code is refused with a reason; the right one links the client that shows it."""
    await control.create_person(OWNER, "Owner")
    await client.until("qr")
    with pytest.raises(ControlError) as nobody:
        await control.type_code(OWNER, "ABCD-EFGH")
    assert nobody.value.problem.status == 404
    code = await client.do("pair_phone", number=OWNER)
    wrong = "1" * 8 if code != "1111-1111" else "2" * 8
    with pytest.raises(ControlError) as refused:
        await control.type_code(OWNER, wrong)
    assert refused.value.problem.status == 422
    await control.type_code(OWNER, code)
    paired = await client.until("PairStatus")
    assert paired["ID"]["User"] == OWNER.removeprefix("+")
    await client.until("Connected")


async def test_a_conversation_goes_both_ways_with_receipts(
    client: NeonizeClient, control: ControlClient
) -> None:
    """Texts are encrypted end to end in both directions; receipts say delivered, then read."""
    await link(client, control)
    await control.change_person(CONTACT, reads=True)

    sent = await client.do("send", to=CONTACT[1:], text="hello out there")
    got = await control.wait_for_text(CONTACT, "hello out there")
    assert (got.id, got.sender, got.sender_device) == (sent["id"], OWNER, 1)
    for kind in ("DELIVERED", "READ"):
        await client.until("Receipt", is_receipt(kind, sent["id"]))

    reply = await control.send(CONTACT, OWNER, "hello back")
    event = await receive(client, "hello back")
    source = event["Info"]["MessageSource"]
    assert event["Info"]["ID"] == reply.id
    assert event["Info"]["Pushname"] == "Contact"
    assert source["SenderAlt"]["User"] == CONTACT[1:]
    await client.do("read", chat=source["Chat"]["User"], message_id=reply.id)
    seen = await control.sent(CONTACT, reply.id, until="read", wait=20)
    assert (seen.delivered, seen.read) == (True, True)

    # Two messages crossed already; both sides must stay in the session they have.
    for number in range(3):
        await client.do("send", to=CONTACT[1:], text=f"more {number}")
        await control.wait_for_text(CONTACT, f"more {number}")
        await control.send(CONTACT, OWNER, f"answer {number}")
        await receive(client, f"answer {number}")
    assert (await control.person(CONTACT)).undecryptable == 0
    await eventually(lambda: _nothing_pending(control), "not everything was confirmed")


async def test_what_happens_while_a_client_is_away_waits_for_it(
    client: NeonizeClient, control: ControlClient
) -> None:
    """After a drop the client reconnects by itself and gets what was sent meanwhile, in order."""
    await link(client, control)
    await control.send(CONTACT, OWNER, "before")
    await receive(client, "before")
    mark = client.mark
    await control.down(1.0)
    for text in ("first", "second"):
        await control.send(CONTACT, OWNER, text)
    await client.until("Disconnected", after=mark)
    await client.until("Connected", after=mark)
    first, second = await receive(client, "first"), await receive(client, "second")
    assert client.events.index(first) < client.events.index(second)
    await client.do("send", to=CONTACT[1:], text="still here")
    await control.wait_for_text(CONTACT, "still here")


async def test_a_restarted_client_is_the_same_device(
    start_neonize: NeonizeStarter, control: ControlClient
) -> None:
    """A client killed and started again on its store logs in and hears what it missed."""
    async with start_neonize("store") as client:
        await link(client, control)
        await client.until("OfflineSyncCompleted")
    await control.send(CONTACT, OWNER, "while you slept")
    async with start_neonize("store") as client:
        await client.until("Connected")
        await receive(client, "while you slept")
    assert len(await control.devices(OWNER)) == 1


async def test_refused_messages_and_unknown_numbers(
    client: NeonizeClient, control: ControlClient
) -> None:
    """A refusal reaches the sender with its code, and a number nobody has cannot be written to."""
    await link(client, control)
    await control.create_person(OTHER, "Nobody", registered=False)
    await control.fault(OWNER, faults.Nack(463))
    assert "463" in await client.do("send", to=CONTACT[1:], text="refused")
    assert "no LID found" in await client.do("send", to=OTHER[1:], text="to nobody")
    found = await client.do("is_on_whatsapp", numbers=[CONTACT, OTHER])
    assert [each.get("IsIn", False) for each in found] == [True, False]
    await client.do("send", to=CONTACT[1:], text="accepted")
    await control.wait_for_text(CONTACT, "accepted")
    assert [each.text for each in await control.received(CONTACT)] == ["accepted"]


async def test_a_logged_out_client_is_told(client: NeonizeClient, control: ControlClient) -> None:
    """When the phone removes a companion, the client hears it and does not come back."""
    await link(client, control)
    await control.fault(OWNER, faults.LogOut())
    event = await client.until("LoggedOut")
    assert event["Reason"] == "LOGGED_OUT"
    assert await control.devices(OWNER) == []


async def test_a_client_logs_itself_out(client: NeonizeClient, control: ControlClient) -> None:
    """A client may leave; its device is gone then."""
    await link(client, control)
    assert await client.do("logout") is None
    await eventually(lambda: _no_devices(control), "the device was not removed")


@pytest.mark.parametrize(
    ("fault", "event"),
    [
        (faults.Replaced(), "StreamReplaced"),
        (faults.Ban(code=101, expire=600), "TemporaryBan"),
        (faults.FailLogin(405), "ClientOutdated"),
        (faults.FailLogin(401), "LoggedOut"),
        (faults.StreamError(516), "StreamError"),
    ],
    ids=["replaced", "ban", "outdated", "logged-out", "stream-error"],
)
async def test_a_client_is_told_what_went_wrong(
    client: NeonizeClient, control: ControlClient, fault: faults.Fault, event: str
) -> None:
    """Each fault of a connection reaches the client as the event WhatsApp's own would cause."""
    await link(client, control)
    await control.fault(OWNER, fault)
    await client.until(event)


async def test_presence_and_typing_are_seen(client: NeonizeClient, control: ControlClient) -> None:
    """A client with the owner's name can announce itself, type, and watch others do so."""
    await link(client, control)
    await eventually(lambda: _announces(client), "the name did not come from the phone")
    assert await client.do("typing", to=CONTACT[1:]) is None
    await client.do("subscribe", to=CONTACT[1:])
    await control.set_presence(CONTACT, available=True)
    await client.until("Presence", lambda each: not each.get("Unavailable"))
    await control.type_to(CONTACT, OWNER)
    await client.until("ChatPresence")
    assert [each.state for each in await control.typing(CONTACT)] == ["composing"]
    assert (await control.person(OWNER)).available


async def test_groups_carry_messages_both_ways(
    client: NeonizeClient, control: ControlClient
) -> None:
    """Who is in a group reads what the others write, through sender keys."""
    await link(client, control)
    await control.create_person(OTHER, "Other")
    made = await client.do("create_group", name="Team", members=[CONTACT[1:], OTHER[1:]])
    jid = f"{made['JID']['User']}@g.us"
    assert {each for group in await control.groups() for each in group.members} == {
        OWNER,
        CONTACT,
        OTHER,
    }
    sent = await client.do("send", to=made["JID"]["User"], server="g.us", text="to all")
    for number in (CONTACT, OTHER):
        assert (await control.wait_for_text(number, "to all")).chat == jid
    await client.until("Receipt", is_receipt("DELIVERED", sent["id"]))
    await control.send(CONTACT, jid, "from one")
    await receive(client, "from one")
    await control.wait_for_text(OTHER, "from one")

    other = await control.create_group("Theirs", CONTACT, [OWNER])
    joined = await client.until("JoinedGroup", lambda each: is_about(each, other.jid))
    assert joined["GroupInfo"]["GroupName"]["Name"] == "Theirs"
    await control.send(CONTACT, other.jid, "welcome")
    await receive(client, "welcome")


async def test_media_travels_sealed(client: NeonizeClient, control: ControlClient) -> None:
    """What a client uploads can be named in a message, and the server cannot read it."""
    await link(client, control)
    sent = await client.do("send_image", to=CONTACT[1:], data=PNG.hex(), caption="a dot")
    got = await control.wait_for_text(CONTACT, "a dot")
    assert (got.id, got.kind) == (sent["id"], "imageMessage")
    assert await client.do("download", content=got.content) == PNG.hex()


async def test_held_messages_and_late_acknowledgements(
    client: NeonizeClient, control: ControlClient
) -> None:
    """Messages can be kept back and let go, and an acknowledgement can be late."""
    await link(client, control)
    await control.fault(OWNER, faults.AckDelay(0.5))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await client.do("send", to=CONTACT[1:], text="slow")
    assert loop.time() - began >= 0.5
    await control.fault(OWNER, faults.Clear())
    await control.fault(CONTACT, faults.Hold())
    await client.do("send", to=CONTACT[1:], text="kept back")
    assert [each.text for each in await control.received(CONTACT)] == ["slow"]
    await control.fault(CONTACT, faults.Hold(on=False))
    await control.wait_for_text(CONTACT, "kept back")


async def test_what_cannot_be_read_is_asked_for_again(
    client: NeonizeClient, control: ControlClient
) -> None:
    """A spoilt ciphertext is sent again on request, by the client and to the client."""
    await link(client, control)
    for number, (garbled, spoilt) in enumerate([(CONTACT, True), (OWNER, False)] * 2):
        await control.fault(garbled, faults.Garble())
        if spoilt:
            await client.do("send", to=CONTACT[1:], text=f"spoilt {number}")
            await control.wait_for_text(CONTACT, f"spoilt {number}")
        else:
            await control.send(CONTACT, OWNER, f"spoilt {number}")
            await receive(client, f"spoilt {number}")
    assert (await control.person(CONTACT)).undecryptable == 0


async def test_all_devices_of_an_account_see_its_chats(
    start_neonize: NeonizeStarter, control: ControlClient
) -> None:
    """What the phone or one companion sends, the others see; what comes in, all see."""
    async with start_neonize("first") as first, start_neonize("second") as second:
        await link(first, control)
        qr = await second.until("qr")
        await control.scan(OWNER, qr["text"])
        await second.until("Connected")
        await first.do("send", to=CONTACT[1:], text="from the first")
        seen = await receive(second, "from the first")
        assert seen["Info"]["MessageSource"]["IsFromMe"]
        [copy] = [each for each in await control.received(OWNER) if each.from_me]
        assert (copy.text, copy.chat) == ("from the first", CONTACT)
        await control.send(OWNER, CONTACT, "from the phone")
        for client in (first, second):
            await receive(client, "from the phone")
        await control.send(CONTACT, OWNER, "to all of you")
        for client in (first, second):
            await receive(client, "to all of you")
        assert len(await control.devices(OWNER)) == 2


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360f8cfc0f01f0005050102a2a3c5b10000000049454e44ae426082"
)
