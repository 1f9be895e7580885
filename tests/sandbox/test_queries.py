"""The queries a companion may ask, each answered as whatsmeow and Baileys read it."""

from collections.abc import AsyncGenerator

import pytest

from sandbox.network import Network
from sandbox.whatsapp.control_client import ControlClient
from sandbox.whatsapp.jid import SERVER, Jid, parse
from sandbox.whatsapp.wabinary import Node, leaf, node
from tests.sandbox.initiator import RawClient, pair

OWNER, CONTACT, OTHER = "+5511987654321", "+4915123456789", "+14155550123"


class Cast:
    """A logged-in companion of the owner, and the addresses of everybody."""

    def __init__(self, client: RawClient, control: ControlClient, lids: list[Jid]) -> None:
        self.client = client
        self.control = control
        self.owner, self.contact, self.other = lids

    async def group(self, *members: Jid) -> Jid:
        participants = [node("participant", {"jid": jid}) for jid in members]
        create = node("create", {"subject": "Team"}, *participants)
        made = await self.client.ask("w:g2", "set", create, to=Jid("", "g.us"))
        return Jid(made.children[0].text("id"), "g.us")


@pytest.fixture
async def cast(network: Network, control: ControlClient) -> AsyncGenerator[Cast]:
    people = [
        await control.create_person(number, name)
        for number, name in ((OWNER, "Owner"), (CONTACT, "Contact"), (OTHER, "Other"))
    ]
    async with await pair(network, control, OWNER) as client:
        await client.until(lambda stanza: stanza.tag == "ib" and bool(stanza.child("offline")))
        yield Cast(client, control, [parse(person.lid) for person in people])


def code(answer: Node) -> str:
    """The code of a refusal, empty for a result."""
    return answer.children[0].text("code") if answer.text("type") == "error" else ""


async def members(cast: Cast) -> list[str]:
    [group] = await cast.control.groups()
    return group.members


async def test_members_come_and_go(cast: Cast) -> None:
    """Who rules a group adds and removes; each member is answered for itself."""
    group = await cast.group(cast.contact)
    stranger = Jid("999", "lid")
    for action, jids, expected in (
        ("add", [cast.other, cast.contact, stranger], ["", "409", "404"]),
        ("promote", [cast.other, stranger], ["", "404"]),
        ("demote", [cast.other], [""]),
        ("remove", [cast.other, stranger], ["", "404"]),
    ):
        asked = node(action, {}, *(node("participant", {"jid": jid}) for jid in jids))
        answer = await cast.client.ask("w:g2", "set", asked, to=group)
        assert [each.text("error") for each in answer.children[0].children] == expected
        told = [stanza for stanza in cast.client.seen if stanza.text("type") == "w:gp2"]
        assert told[-1].children[0].tag == action
        assert [each.jid("jid") for each in told[-1].children[0].children] == jids[:1]
    assert await members(cast) == [OWNER, CONTACT]


async def test_a_group_is_described_and_changed(cast: Cast) -> None:
    """Subject, description and switches are kept, shown and told."""
    group = await cast.group(cast.contact)
    body = leaf("body", b"what for")
    changes = (
        leaf("subject", b"New name"),
        node("description", {"id": "d1"}, body),
        node("announcement"),
        node("locked"),
        node("ephemeral", {"expiration": "86400"}),
    )
    for asked in changes:
        assert code(await cast.client.ask("w:g2", "set", asked, to=group)) == ""
    answer = await cast.client.ask("w:g2", "get", node("query"), to=group)
    shown = answer.children[0]
    assert shown.text("subject") == "New name"
    described = shown.child("description")
    assert described is not None
    assert described.children == (body,)
    assert shown.child("announcement") is not None
    assert shown.child("locked") is not None
    for asked in (node("not_announcement"), node("unlocked")):
        await cast.client.ask("w:g2", "set", asked, to=group)
    answer = await cast.client.ask("w:g2", "get", node("query"), to=group)
    assert answer.children[0].child("announcement") is answer.children[0].child("locked") is None
    listed = await cast.client.ask("w:g2", "get", node("participating"), to=Jid("", "g.us"))
    assert [each.text("id") for each in listed.children[0].children] == [group.user]


async def test_a_group_is_joined_by_its_invite_and_left(cast: Cast) -> None:
    """An invite names its group; a new one makes the old one void; who left is gone."""
    theirs = await cast.control.create_group("Theirs", CONTACT, [])
    assert code(await cast.client.ask("w:g2", "get", node("query"), to=parse(theirs.jid))) == "403"
    mine = await cast.group()
    first = await cast.client.ask("w:g2", "set", node("invite"), to=mine)
    second = await cast.client.ask("w:g2", "set", node("invite"), to=mine)
    codes = [answer.children[0].text("code") for answer in (first, second)]
    assert codes[0] != codes[1]
    everywhere = Jid("", "g.us")
    for given, expected in zip(codes, ("406", ""), strict=True):
        shown = await cast.client.ask("w:g2", "get", node("invite", {"code": given}), to=everywhere)
        assert code(shown) == expected
    joined = await cast.client.ask("w:g2", "set", node("invite", {"code": codes[1]}), to=everywhere)
    assert joined.children[0].jid("jid") == mine
    ways_out = node("leave", {}, node("group", {"id": mine}), node("group", {"id": everywhere}))
    left = await cast.client.ask("w:g2", "set", ways_out, to=everywhere)
    assert [each.text("error") for each in left.children[0].children] == ["", "404"]
    assert code(await cast.client.ask("w:g2", "get", node("query"), to=mine)) == "403"


async def test_only_who_rules_a_group_changes_it(cast: Cast) -> None:
    """A member is refused, and a group that does not exist is not found."""
    theirs = await cast.control.create_group("Theirs", CONTACT, [OWNER])
    for group, expected in ((parse(theirs.jid), "403"), (Jid("1", "g.us"), "404")):
        answer = await cast.client.ask("w:g2", "set", leaf("subject", b"Mine"), to=group)
        assert code(answer) == expected


async def test_settings_are_kept(cast: Cast) -> None:
    """Privacy, about and picture read back as they were set."""
    wanted = node("category", {"name": "last", "value": "none"})
    assert code(await cast.client.ask("privacy", "set", node("privacy", {}, wanted))) == ""
    shown = (await cast.client.ask("privacy", "get", node("privacy"))).children[0]
    values = {each.text("name"): each.text("value") for each in shown.children}
    assert (values["last"], values["profile"]) == ("none", "all")

    assert code(await cast.client.ask("status", "set", leaf("status", b"busy"))) == ""
    asked = node(
        "usync",
        {"sid": "1"},
        node("query", {}, node("status"), node("picture")),
        node("list", {}, node("user", {"jid": cast.owner})),
    )
    picture = leaf("picture", b"jpeg", {"type": "image"})
    assert code(await cast.client.ask("w:profile:picture", "get", node("picture"))) == "404"
    changed = await cast.client.ask("w:profile:picture", "set", picture)
    shown = await cast.client.ask("w:profile:picture", "get", node("picture"))
    assert shown.children[0].text("id") == changed.children[0].text("id")
    answer = (await cast.client.ask("usync", "get", asked)).children[0].child("list")
    assert answer is not None
    assert [part.data for part in answer.children[0].all("status")] == [b"busy"]
    assert len(answer.children[0].all("picture")) == 1
    assert code(await cast.client.ask("w:profile:picture", "set")) == ""
    assert code(await cast.client.ask("w:profile:picture", "get", node("picture"))) == "404"


async def test_who_is_blocked_is_not_heard(cast: Cast) -> None:
    """A blocked contact's messages do not arrive, and do again when it is not."""
    for action, arrives in (("block", False), ("unblock", True)):
        item = node("item", {"jid": cast.contact, "action": action})
        listed = (await cast.client.ask("blocklist", "set", item)).children[0]
        assert [each.jid("jid") for each in listed.children] == ([] if arrives else [cast.contact])
        sent = await cast.control.send(CONTACT, OWNER, action)
        got = await cast.control.sent(CONTACT, sent.id, until="delivered", wait=0.2)
        assert got.delivered is arrives
    nobody = node("item", {"jid": Jid("999", "lid"), "action": "block"})
    assert code(await cast.client.ask("blocklist", "set", nobody)) == "404"


async def test_app_state_has_one_order(cast: Cast) -> None:
    """A patch on what is known gets the next version; one on less gets what it lacks instead."""

    async def sync(version: str, *inside: Node) -> Node:
        collection = node("collection", {"name": "regular", "version": version}, *inside)
        asked = node("sync", {}, collection)
        answer = await cast.client.ask("w:sync:app:state", "set", asked)
        return answer.children[0].children[0]

    assert (await sync("0", leaf("patch", b"\x12\x00"))).text("version") == "1"
    conflict = await sync("0", leaf("patch", b"\x12\x01a"))
    assert (conflict.text("type"), conflict.text("version")) == ("error", "1")
    patches = conflict.child("patches")
    assert patches is not None
    assert [patch.data for patch in patches.children] == [b"\x0a\x02\x08\x01\x12\x00"]
    assert (await sync("1", leaf("patch", b"\x12\x00"))).text("version") == "2"
    assert (await sync("2")).children == ()
    nameless = node("sync", {}, node("collection"))
    assert code(await cast.client.ask("w:sync:app:state", "set", nameless)) == "400"


@pytest.mark.parametrize(
    ("xmlns", "kind", "asked"),
    [
        ("w:m", "set", node("media_conn")),
        ("w:mex", "get", leaf("query", b"{}", {"query_id": "1"})),
        ("w:biz", "get", node("business_profile", {}, node("profile", {"jid": SERVER}))),
        ("status", "get", node("privacy")),
        ("disappearing_mode", "set", node("disappearing_mode", {"duration": "0"})),
        ("w", "get", node("props")),
        ("encrypt", "get", node("count")),
        ("encrypt", "get", node("digest")),
        ("passive", "set", node("active")),
        ("privacy", "set", node("tokens")),
    ],
)
async def test_small_queries_have_results(cast: Cast, xmlns: str, kind: str, asked: Node) -> None:
    """What clients ask on their way is answered with a result."""
    assert (await cast.client.ask(xmlns, kind, asked)).text("type") == "result"


async def test_a_companion_is_removed_by_the_phone_or_itself(network: Network, cast: Cast) -> None:
    """The phone removes one companion; another removes itself; both are told and closed."""
    async with await pair(network, cast.control, OWNER) as second:
        await second.receive()
        await cast.control.unlink(OWNER, 2)
        told = await second.until(lambda stanza: stanza.tag == "stream:error")
        assert (told.text("code"), told.children[0].text("type")) == ("401", "device_removed")
    gone = node("remove-companion-device", {"jid": cast.owner.with_device(9)})
    assert code(await cast.client.ask("md", "set", gone)) == "404"
    myself = node("remove-companion-device", {"jid": cast.owner.with_device(1)})
    assert code(await cast.client.ask("md", "set", myself)) == ""
    await cast.client.until(lambda stanza: stanza.tag == "stream:error")
    assert await cast.control.devices(OWNER) == []
