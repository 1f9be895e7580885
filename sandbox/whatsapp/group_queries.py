"""What clients ask of groups. Every change is told to all members, which is how clients learn."""

from sandbox.whatsapp.directory import Device, User
from sandbox.whatsapp.groups import MAX_MEMBERS, Group, Rank
from sandbox.whatsapp.refusals import RefusedError
from sandbox.whatsapp.wabinary import Attribute, Node, leaf, node
from sandbox.whatsapp.world import World

CHANGES = ("add", "remove", "promote", "demote")
SWITCHES = ("announcement", "not_announcement", "locked", "unlocked", "ephemeral")
RANKS: dict[str, Rank] = {"promote": "admin", "demote": "member"}


def create(world: World, device: Device, query: Node) -> tuple[Node, ...]:
    asked = query.children[0]
    subject = asked.text("subject")
    if not subject:
        raise RefusedError(406)
    group = world.groups.create(subject, device.user, world.clock(), world.rand(8).hex())
    answers = [_join(world, group, each) for each in asked.all("participant")]
    described = tell_created(world, group, device)
    failed = [answer for answer in answers if answer.text("error")]
    return (Node("group", described.attrs, (*described.children, *failed)),)


def tell_created(world: World, group: Group, by: Device) -> Node:
    """Tell the members of a new group; return its description."""
    described = _described(group)
    _tell(world, group, by, node("create", {"type": "new"}, described))
    return described


def query(world: World, device: Device, query: Node) -> tuple[Node, ...]:
    return (_described(_joined(world, device, query)),)


def participating(world: World, device: Device, _query: Node) -> tuple[Node, ...]:
    return (node("groups", {}, *map(_described, world.groups.of(device.user))),)


def by_invite(world: World, _device: Device, query: Node) -> tuple[Node, ...]:
    group = world.groups.by_invite(query.children[0].text("code"))
    if group is None:
        raise RefusedError(406)
    return (_described(group),)


def invite(world: World, device: Device, query: Node) -> tuple[Node, ...]:
    """Show a group's invite, make a new one, or join by one (then the query goes to no group)."""
    code = query.children[0].text("code")
    if code:
        group = world.groups.by_invite(code)
        if group is None:
            raise RefusedError(406)
        group.ranks.setdefault(device.user, "member")
        _tell(world, group, device, node("add", {"reason": "invite"}, _member(group, device.user)))
        return (node("group", {"jid": group.jid}),)
    group = _ruled(world, device, query)
    if query.text("type") == "set":
        group.invite = world.rand(8).hex()
    return (node("invite", {"code": group.invite}),)


def leave(world: World, device: Device, query: Node) -> tuple[Node, ...]:
    answers: list[Node] = []
    for asked in query.children[0].all("group"):
        group = world.groups.get(asked.jid("id"))
        if group is None or device.user not in group.ranks:
            answers.append(node("group", {"id": asked.text("id"), "error": "404"}))
            continue
        _tell(world, group, device, node("remove", {}, _member(group, device.user)))
        del group.ranks[device.user]
        answers.append(node("group", {"id": asked.text("id")}))
    return (node("leave", {}, *answers),)


def subject(world: World, device: Device, query: Node) -> tuple[Node, ...]:
    group = _ruled(world, device, query)
    group.subject = query.children[0].data.decode(errors="replace")
    group.subject_by, group.subject_at = device.user, world.clock()
    attrs = {"subject": group.subject, "s_t": str(group.subject_at), "s_o": device.user.lid}
    _tell(world, group, device, node("subject", attrs))
    return ()


def description(world: World, device: Device, query: Node) -> tuple[Node, ...]:
    group = _ruled(world, device, query)
    asked = query.children[0]
    body = asked.child("body")
    group.description = body.data.decode(errors="replace") if body is not None else ""
    group.description_id = asked.text("id") or world.rand(8).hex()
    _tell(world, group, device, _description(group))
    return ()


def change(world: World, device: Device, query: Node) -> tuple[Node, ...]:
    """Add, remove, promote or demote members; each is answered for itself."""
    group = _ruled(world, device, query)
    asked = query.children[0]
    action = asked.tag
    answers: list[Node] = []
    for each in asked.all("participant"):
        if action == "add":
            answers.append(_join(world, group, each))
        else:
            answers.append(_member_change(world, group, each, action))
    changed = [answer for answer in answers if not answer.text("error")]
    if changed:
        _tell(world, group, device, node(action, {}, *changed))
    if action == "remove":
        for answer in changed:
            gone = world.directory.user(answer.jid("jid"))
            if gone is not None:
                del group.ranks[gone]
    return (node(action, {}, *answers),)


def switch(world: World, device: Device, query: Node) -> tuple[Node, ...]:
    group = _ruled(world, device, query)
    match query.children[0].tag:
        case "announcement" | "not_announcement" as tag:
            group.announcement = tag == "announcement"
        case "locked" | "unlocked" as tag:
            group.locked = tag == "locked"
        case _:
            pass  # how long messages last is between clients; the server only tells them
    told = query.children[0]
    _tell(world, group, device, Node(told.tag, {**told.attrs, "v_id": str(group.version)}))
    return ()


def _joined(world: World, device: Device, query: Node) -> Group:
    group = world.groups.get(query.jid("to"))
    if group is None:
        raise RefusedError(404)
    if device.user not in group.ranks:
        raise RefusedError(403)
    return group


def _ruled(world: World, device: Device, query: Node) -> Group:
    group = _joined(world, device, query)
    if not group.rules(device.user):
        raise RefusedError(403)
    return group


def _join(world: World, group: Group, asked: Node) -> Node:
    jid = asked.jid("jid")
    user = world.directory.user(jid)
    if user is None:
        return node("participant", {"jid": jid or "", "error": "404"})
    if user in group.ranks and user is not group.creator:
        return node("participant", {"jid": user.lid, "error": "409"})
    if len(group.ranks) >= MAX_MEMBERS:
        return node("participant", {"jid": user.lid, "error": "419"})
    group.ranks.setdefault(user, "member")
    return _member(group, user)


def _member_change(world: World, group: Group, asked: Node, action: str) -> Node:
    jid = asked.jid("jid")
    user = world.directory.user(jid)
    if user is None or user not in group.ranks:
        return node("participant", {"jid": jid or "", "error": "404"})
    if action in RANKS:
        group.ranks[user] = RANKS[action]
    return _member(group, user)


def _member(group: Group, user: User) -> Node:
    rank = group.ranks.get(user, "member")
    attrs: dict[str, Attribute] = {"jid": user.lid, "phone_number": user.pn}
    return node("participant", attrs | ({"type": rank} if rank != "member" else {}))


def _described(group: Group) -> Node:
    attrs: dict[str, Attribute] = {
        "id": group.jid.user,
        "subject": group.subject,
        "s_t": str(group.subject_at),
        "s_o": group.subject_by.lid,
        "creation": str(group.created),
        "creator": group.creator.lid,
        "creator_pn": group.creator.pn,
        "addressing_mode": "lid",
        "size": str(len(group.ranks)),
        "a_v_id": str(group.version),
        "p_v_id": str(group.version),
    }
    parts = [_member(group, user) for user in group.ranks]
    if group.description:
        parts.append(_description(group))
    if group.announcement:
        parts.append(node("announcement"))
    if group.locked:
        parts.append(node("locked"))
    return node("group", attrs, *parts)


def _description(group: Group) -> Node:
    body = leaf("body", group.description.encode())
    attrs: dict[str, Attribute] = {
        "id": group.description_id,
        "t": str(group.subject_at),
        "participant": group.creator.lid,
    }
    return node("description", attrs, body)


def _tell(world: World, group: Group, by: Device, what: Node) -> None:
    group.version += 1
    attrs: dict[str, Attribute] = {
        "from": group.jid,
        "type": "w:gp2",
        "id": world.new_id(),
        "participant": by.user.lid,
        "participant_pn": by.user.pn,
        "t": str(world.clock()),
        "notify": by.user.push_name,
    }
    for user in group.ranks:
        for device in user.devices.values():
            world.deliver(device, node("notification", attrs, what))
