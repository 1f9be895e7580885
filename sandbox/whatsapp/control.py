"""The control API: HTTP and JSON by which tests and people move the sandbox.

Each route decodes its body, asks the world to do it, and shows what came of it.
"""

import logging

import msgspec
from aiohttp import web

from sandbox.whatsapp import control_types as bodies
from sandbox.whatsapp import linking, presence, router, writing
from sandbox.whatsapp.control_http import (
    ConflictError,
    MissingError,
    answer,
    body,
    problems,
    query,
    wait_of,
)
from sandbox.whatsapp.control_views import (
    device_view,
    group_view,
    person_view,
    received_view,
    sent_view,
)
from sandbox.whatsapp.directory import Device
from sandbox.whatsapp.faults import end_connections, inflict
from sandbox.whatsapp.group_queries import tell_created
from sandbox.whatsapp.jid import Jid, parse
from sandbox.whatsapp.pairing import Pairings
from sandbox.whatsapp.people import People
from sandbox.whatsapp.person import Person
from sandbox.whatsapp.proxy import Proxy
from sandbox.whatsapp.reading import mark_read
from sandbox.whatsapp.wabinary import node
from sandbox.whatsapp.world import World

logger = logging.getLogger(__name__)

MAX_BODY = 1 << 20  # bytes

FAULTS: msgspec.json.Decoder[bodies.Fault] = msgspec.json.Decoder(bodies.Fault)


class Control:
    def __init__(self, world: World, people: People, pairings: Pairings, proxy: Proxy) -> None:
        self._world = world
        self._people = people
        self._pairings = pairings
        self._proxy = proxy
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> int:
        """Listen; return the port."""
        app = web.Application(middlewares=[problems], client_max_size=MAX_BODY)
        app.router.add_routes(self._routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        return self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _routes(self) -> list[web.RouteDef]:
        person = "/people/{number}"
        return [
            web.get("/health", self._health),
            web.get("/connections", self._connections),
            web.get("/pairings", self._waiting),
            web.post("/down", self._down),
            web.post("/dials", self._dials),
            web.post("/people", self._create),
            web.get("/people", self._list),
            web.get(person, self._read),
            web.patch(person, self._change),
            web.post(f"{person}/scan", self._scan),
            web.post(f"{person}/code", self._code),
            web.post(f"{person}/messages", self._send),
            web.get(f"{person}/messages/{{id}}", self._sent),
            web.get(f"{person}/received", self._received),
            web.post(f"{person}/read", self._mark_read),
            web.post(f"{person}/presence", self._presence),
            web.post(f"{person}/typing", self._type),
            web.get(f"{person}/typing", self._typing),
            web.get(f"{person}/devices", self._devices),
            web.delete(f"{person}/devices/{{device}}", self._unlink),
            web.post(f"{person}/faults", self._fault),
            web.post("/groups", self._create_group),
            web.get("/groups", self._groups),
        ]

    async def _health(self, _: web.Request) -> web.Response:
        connections = sum(device.outlet is not None for device in self._companions())
        people = len(list(self._people))
        return answer(bodies.HealthOut(people, connections, len(self._pairings)))

    async def _connections(self, _: web.Request) -> web.Response:
        connected = [device for device in self._companions() if device.outlet is not None]
        return answer([device_view(device) for device in connected])

    async def _waiting(self, _: web.Request) -> web.Response:
        numbers = [f"+{each}" if each else None for each in self._pairings.numbers()]
        return answer([bodies.PairingOut(number) for number in numbers])

    async def _down(self, request: web.Request) -> web.Response:
        asked = await body(request, bodies.DownIn)
        self._world.go_down(asked.seconds)
        for person in self._people:
            end_connections(person.user)
        self._proxy.cut()
        return web.Response(status=204)

    async def _dials(self, request: web.Request) -> web.Response:
        asked = await body(request, bodies.DialsIn)
        self._world.fail_dials(asked.kind, asked.times)
        return web.Response(status=204)

    async def _create(self, request: web.Request) -> web.Response:
        asked = await body(request, bodies.PersonIn)
        person = self._people.create(asked.number, asked.push_name)
        person.user.registered = asked.registered
        person.user.addressing = asked.addressing
        person.delivers, person.reads, person.reply = asked.delivers, asked.reads, asked.reply
        return answer(person_view(person), 201)

    async def _list(self, _: web.Request) -> web.Response:
        return answer([person_view(person) for person in self._people])

    async def _read(self, request: web.Request) -> web.Response:
        return answer(person_view(self._person(request)))

    async def _change(self, request: web.Request) -> web.Response:
        person = self._person(request)
        asked = await body(request, bodies.PersonChange)
        if asked.registered is not None:
            person.user.registered = asked.registered
        if asked.addressing is not None:
            person.user.addressing = asked.addressing
        person.delivers = person.delivers if asked.delivers is None else asked.delivers
        person.reads = person.reads if asked.reads is None else asked.reads
        person.reply = person.reply if asked.reply is None else asked.reply
        return answer(person_view(person))

    async def _scan(self, request: web.Request) -> web.Response:
        person = self._person(request)
        asked = await body(request, bodies.ScanIn)
        device = await linking.scan(person, self._pairings, asked.qr)
        return answer(device_view(device), 201)

    async def _code(self, request: web.Request) -> web.Response:
        person = self._person(request)
        asked = await body(request, bodies.CodeIn)
        device = await linking.type_code(person, self._pairings, asked.code)
        return answer(device_view(device), 201)

    async def _send(self, request: web.Request) -> web.Response:
        person = self._person(request)
        asked = await body(request, bodies.TextIn)
        if asked.to.startswith("+"):
            to = self._people.get(asked.to)
            if not to.user.registered:
                raise ConflictError("this number is not on WhatsApp")
            sent = writing.send_text(person, to.user, asked.text)
        else:
            sent = writing.send_to_group(person, self._group(asked.to), asked.text)
        return answer(sent_view(sent), 201)

    async def _sent(self, request: web.Request) -> web.Response:
        """One sent message; waits until it has got as far as `until` says."""
        person = self._person(request)
        sent = person.sent.get(request.match_info["id"])
        if sent is None:
            raise MissingError("this person sent no such message")
        wanted: bodies.Progress = msgspec.convert(
            request.query.get("until", "sent"), bodies.Progress
        )
        reached = {
            "sent": lambda: True,
            "delivered": lambda: sent.delivered,
            "read": lambda: sent.read,
        }
        await person.until(reached[wanted], wait_of(request))
        return answer(sent_view(sent))

    async def _received(self, request: web.Request) -> web.Response:
        """The messages after an index; waits for one if there is none yet."""
        person = self._person(request)
        after = query(request, "after", int, -1)
        await person.until(lambda: person.received_count > after + 1, wait_of(request))
        messages = [message for message in person.received if message.index > after]
        return answer([received_view(message) for message in messages])

    async def _mark_read(self, request: web.Request) -> web.Response:
        person = self._person(request)
        asked = await body(request, bodies.ReadIn)
        wanted = set(asked.ids)
        found = [message for message in person.received if message.id in wanted]
        if wanted - {message.id for message in found}:
            raise MissingError("this person received no such message")
        for message in found:
            mark_read(person, message)
        return web.Response(status=204)

    async def _presence(self, request: web.Request) -> web.Response:
        person = self._person(request)
        asked = await body(request, bodies.PresenceIn)
        presence.set_available(self._world, person.device, available=asked.available)
        return web.Response(status=204)

    async def _type(self, request: web.Request) -> web.Response:
        person = self._person(request)
        asked = await body(request, bodies.TypingIn)
        to = self._people.get(asked.to).user.lid if asked.to.startswith("+") else parse(asked.to)
        tag = "paused" if asked.state == "paused" else "composing"
        media = {"media": "audio"} if asked.state == "recording" else {}
        router.handle(self._world, person.device, node("chatstate", {"to": to}, node(tag, media)))
        return web.Response(status=204)

    async def _typing(self, request: web.Request) -> web.Response:
        person = self._person(request)
        seen = [bodies.TypingOut(*msgspec.structs.astuple(each)) for each in person.typing]
        return answer(seen)

    async def _devices(self, request: web.Request) -> web.Response:
        return answer([device_view(device) for device in self._person(request).user.companions])

    async def _unlink(self, request: web.Request) -> web.Response:
        person = self._person(request)
        number = request.match_info["device"]
        device = person.user.devices.get(int(number)) if number.isdecimal() else None
        if device is None or device is person.device:
            raise MissingError("this person has no such companion")
        linking.unlink(person, device)
        return web.Response(status=204)

    async def _fault(self, request: web.Request) -> web.Response:
        person = self._person(request)
        inflict(self._world, person.user, FAULTS.decode(await request.read()))
        return web.Response(status=204)

    async def _create_group(self, request: web.Request) -> web.Response:
        asked = await body(request, bodies.GroupIn)
        creator = self._people.get(asked.creator)
        members = [self._people.get(number).user for number in asked.members]
        group = self._world.groups.create(
            asked.subject, creator.user, self._world.clock(), self._world.rand(8).hex()
        )
        for user in members:
            group.ranks.setdefault(user, "member")
        tell_created(self._world, group, creator.device)
        return answer(group_view(group), 201)

    async def _groups(self, _: web.Request) -> web.Response:
        return answer([group_view(group) for group in self._world.groups])

    def _person(self, request: web.Request) -> Person:
        return self._people.get(request.match_info["number"])

    def _group(self, text: str) -> Jid:
        jid = parse(text)
        if self._world.groups.get(jid) is None:
            raise MissingError("there is no such group")
        return jid

    def _companions(self) -> list[Device]:
        return list(self._world.directory.companions())
