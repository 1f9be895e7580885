"""Queries: a client asks, the server answers at once, also when it does not know how.

A handler is found by namespace, type and the first child's tag. It returns the children of the
result, or raises `RefusedError`. A query left without an answer would hold a client up for 75 s,
so there is none.
"""

import logging
from collections.abc import Callable

from sandbox.whatsapp import accounts, group_queries, media_queries, prekeys, sync_queries, usync
from sandbox.whatsapp.directory import Device
from sandbox.whatsapp.jid import SERVER
from sandbox.whatsapp.refusals import RefusedError
from sandbox.whatsapp.wabinary import Node, node
from sandbox.whatsapp.world import World

logger = logging.getLogger(__name__)

Handler = Callable[[World, Device, Node], tuple[Node, ...]]


def _nothing(_world: World, _device: Device, _query: Node) -> tuple[Node, ...]:
    return ()


ANY = "*"
HANDLERS: dict[tuple[str, str, str], Handler] = {
    ("w:p", "get", ANY): _nothing,
    ("urn:xmpp:ping", "get", ANY): _nothing,
    ("encrypt", "get", "count"): prekeys.count,
    ("encrypt", "get", "key"): prekeys.fetch,
    ("encrypt", "get", "digest"): prekeys.digest,
    ("encrypt", "set", "registration"): prekeys.upload,
    ("encrypt", "set", "rotate"): prekeys.rotate,
    ("passive", "set", ANY): accounts.activate,
    ("usync", "get", "usync"): usync.answer,
    ("w:m", "set", "media_conn"): media_queries.connection,
    ("w:sync:app:state", "set", "sync"): sync_queries.sync,
    ("md", "set", "remove-companion-device"): accounts.log_out,
    ("privacy", "get", ANY): accounts.get_privacy,
    ("privacy", "set", "tokens"): _nothing,
    ("privacy", "set", ANY): accounts.set_privacy,
    ("blocklist", "get", ANY): accounts.get_blocked,
    ("blocklist", "set", "item"): accounts.set_blocked,
    ("w:profile:picture", "get", ANY): accounts.get_picture,
    ("w:profile:picture", "set", ANY): accounts.set_picture,
    ("w:biz", "get", ANY): accounts.business_profile,
    ("status", "get", "privacy"): accounts.status_privacy,
    ("status", "set", "status"): accounts.set_about,
    ("disappearing_mode", "set", ANY): _nothing,
    ("w", "get", "props"): accounts.properties,
    ("abt", "get", "props"): accounts.properties,
    ("w:mex", "get", ANY): accounts.mex,
    ("w:g2", "set", "create"): group_queries.create,
    ("w:g2", "get", "query"): group_queries.query,
    ("w:g2", "get", "participating"): group_queries.participating,
    ("w:g2", "get", "invite"): group_queries.by_invite,
    ("w:g2", "set", "invite"): group_queries.invite,
    ("w:g2", "set", "leave"): group_queries.leave,
    ("w:g2", "set", "subject"): group_queries.subject,
    ("w:g2", "set", "description"): group_queries.description,
    **{("w:g2", "set", change): group_queries.change for change in group_queries.CHANGES},
    **{("w:g2", "set", switch): group_queries.switch for switch in group_queries.SWITCHES},
}


def answer(world: World, device: Device, query: Node) -> None:
    """Answer a query of a logged-in device."""
    first = query.children[0].tag if query.children else ""
    key = query.text("xmlns"), query.text("type"), first
    handler = HANDLERS.get(key) or HANDLERS.get((*key[:2], ANY))
    if handler is None:
        logger.info("sandbox.query_unknown", extra={"query": ":".join(key)})
        world.deliver(device, unknown(query))
        return
    try:
        result = handler(world, device, query)
    except RefusedError as refusal:
        world.deliver(device, _error(query, refusal.code, refusal.text))
    else:
        attrs = {"from": query.jid("to") or SERVER, "id": query.text("id"), "type": "result"}
        world.deliver(device, node("iq", attrs, *result))


def unknown(query: Node) -> Node:
    """The answer to what we do not know."""
    return _error(query, 501, "feature-not-implemented")


def failed(query: Node) -> Node:
    """The answer when we are at fault."""
    return _error(query, 500, "internal-server-error")


def answer_unpaired(query: Node) -> Node:
    """Answer a client that is not a device yet: it may only keep its connection alive."""
    if query.text("xmlns") in ("w:p", "urn:xmpp:ping"):
        return node("iq", {"from": SERVER, "id": query.text("id"), "type": "result"})
    return _error(query, 401, "not-authorized")


def _error(query: Node, code: int, text: str) -> Node:
    attrs = {"from": query.jid("to") or SERVER, "id": query.text("id"), "type": "error"}
    return node("iq", attrs, node("error", {"code": str(code), "text": text}))
