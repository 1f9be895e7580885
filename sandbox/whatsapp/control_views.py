"""How things of the sandbox look over the control API."""

import msgspec

from sandbox.whatsapp import control_types as bodies
from sandbox.whatsapp.directory import Device
from sandbox.whatsapp.groups import Group
from sandbox.whatsapp.logbook import Line
from sandbox.whatsapp.person import Person, Received, Sent


def device_view(device: Device) -> bodies.DeviceOut:
    return bodies.DeviceOut(
        owner=f"+{device.user.number}",
        device=device.number,
        lid=str(device.lid),
        connected=device.outlet is not None,
        available=device.available,
        prekeys=len(device.one_time),
        pending=len(device.pending),
        connected_since=device.online_since if device.outlet is not None else None,
    )


def login_view(line: Line) -> bodies.LoginOut:
    return bodies.LoginOut(line.index, line.owner, line.device, line.since, line.until)


def person_view(person: Person) -> bodies.PersonOut:
    user = person.user
    return bodies.PersonOut(
        number=f"+{user.number}",
        lid=str(user.lid),
        push_name=user.push_name,
        registered=user.registered,
        delivers=person.delivers,
        reads=person.reads,
        reply=person.reply,
        addressing=user.addressing,
        available=user.available,
        received=person.received_count,
        undecryptable=len(person.refused),
        devices=[device_view(device) for device in user.companions],
    )


def sent_view(sent: Sent) -> bodies.SentOut:
    return bodies.SentOut(sent.id, sent.chat, sent.text, sent.timestamp, sent.delivered, sent.read)


def received_view(message: Received) -> bodies.ReceivedOut:
    return bodies.ReceivedOut(**msgspec.structs.asdict(message))


def group_view(group: Group) -> bodies.GroupOut:
    return bodies.GroupOut(
        jid=str(group.jid),
        subject=group.subject,
        creator=f"+{group.creator.number}",
        members=[f"+{user.number}" for user in group.ranks],
    )
