"""What can be made to go wrong, done to a person's connections."""

from typing import assert_never

from sandbox.whatsapp import control_types as bodies
from sandbox.whatsapp.accounts import remove
from sandbox.whatsapp.connection import Connection
from sandbox.whatsapp.directory import User
from sandbox.whatsapp.wabinary import Attribute, Node, node
from sandbox.whatsapp.world import World

REPLACED = node("stream:error", {}, node("conflict", {"type": "replaced"}))
ABORTING = {413, 414}  # login failures on which whatsmeow calls a function neonize does not set


class HarmfulError(ValueError):
    """A fault that would abort the client's whole process instead of testing it."""


def inflict(world: World, user: User, fault: bodies.Fault) -> None:  # noqa: C901, PLR0912 - one branch a fault
    """Do one fault to a user.

    Raises:
        HarmfulError: no client survives it.
    """
    faults = user.faults
    match fault:
        case bodies.Drop():
            end_connections(user)
        case bodies.StreamError():
            end_connections(user, node("stream:error", {"code": str(fault.code)}))
        case bodies.FailLogin():
            if fault.reason in ABORTING:
                raise HarmfulError(f"login failure {fault.reason} aborts neonize's process")
            failure = node("failure", {"reason": str(fault.reason), "location": "sbx"})
            _fail_logins(user, failure, fault.times, drop=fault.drop)
        case bodies.Abort():
            failure = node("failure", {"reason": str(fault.reason), "location": "sbx"})
            _fail_logins(user, failure, 1, drop=fault.drop)
        case bodies.Flap():
            faults.flaps = fault.times
            end_connections(user)
        case bodies.Poison():
            _poison(world, user, fault)
        case bodies.Ban():
            attrs = {"reason": "402", "code": str(fault.code), "expire": str(fault.expire)}
            _fail_logins(user, node("failure", attrs), 1, drop=fault.drop)
        case bodies.Silence() if fault.on:
            faults.silent = True
        case bodies.AckDelay():
            faults.ack_delay = fault.seconds
        case bodies.Nack():
            faults.nack, faults.nacks_left = fault.code, fault.times
        case bodies.Garble():
            faults.garbled = fault.times
        case bodies.Hold() if fault.on:
            faults.held = True
        case bodies.Silence() | bodies.Hold():
            world.release(user)
        case bodies.LogOut():
            for device in user.companions:
                remove(world, device)
        case bodies.Replaced():
            end_connections(user, REPLACED)
        case bodies.RefuseCode():
            faults.code_refusals.extend([fault.code] * fault.times)
        case bodies.Clear():
            _clear(world, user)
        case _:
            assert_never(fault)


def end_connections(user: User, *last: Node) -> None:
    for device in user.companions:
        if isinstance(device.outlet, Connection):
            device.outlet.end(*last)


def _poison(world: World, user: User, poison: bodies.Poison) -> None:
    for device in user.companions:
        connection = device.outlet
        if not isinstance(connection, Connection):
            continue
        attrs: dict[str, Attribute] = {"from": user.lid}
        match poison.what:
            case "receipt":
                known = {"id": world.message_id(), "t": str(world.clock())}
                connection.send(node("receipt", attrs | known | {"type": "unheard-of"}))
            case "chatstate":
                connection.send(node("chatstate", attrs, node("unheard-of")))
            case "stanza":
                connection.send(node("unheard-of", attrs))
            case "junk":
                connection.send_raw(b"\0\xf8\xff\x07\x00")
            case "noise":
                connection.send_raw(None)
            case _:
                assert_never(poison.what)


def _fail_logins(user: User, failure: Node, times: int, *, drop: bool) -> None:
    user.faults.next_login.extend([failure] * times)
    if drop:
        end_connections(user)


def _clear(world: World, user: User) -> None:
    faults = user.faults
    faults.garbled = faults.flaps = 0
    faults.ack_delay = 0.0
    faults.nack, faults.nacks_left = None, 0
    faults.next_login.clear()
    faults.code_refusals.clear()
    world.release(user)
