"""How the control API speaks HTTP: bodies in and out, and every refusal as a problem.

Errors are problems as RFC 9457 has them: 400 a body that does not fit, 404 nobody or nothing by
that name, 409 not in the present state, 422 understood and impossible.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import web

from sandbox.whatsapp import control_types as bodies
from sandbox.whatsapp.adv import LinkError
from sandbox.whatsapp.faults import HarmfulError
from sandbox.whatsapp.jid import MalformedJidError
from sandbox.whatsapp.linkcode import CodeFormatError, ExchangeError, WrongCodeError
from sandbox.whatsapp.pairing import NoSuchPairingError, PairingRefusedError
from sandbox.whatsapp.people import BadNumberError, TakenError, UnknownPersonError

logger = logging.getLogger(__name__)

MAX_WAIT = 60.0  # seconds a question may stay open

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class MissingError(LookupError):
    """There is no such device, message or group."""


class ConflictError(Exception):
    """Not in the present state."""


STATUS: dict[type[Exception], int] = {
    msgspec.ValidationError: 400,
    msgspec.DecodeError: 400,
    UnknownPersonError: 404,
    MissingError: 404,
    NoSuchPairingError: 404,
    TakenError: 409,
    ConflictError: 409,
    PairingRefusedError: 409,
    ExchangeError: 409,
    BadNumberError: 422,
    MalformedJidError: 422,
    LinkError: 422,
    CodeFormatError: 422,
    WrongCodeError: 422,
    HarmfulError: 422,
}


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a handler raises into a problem."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return problem(error.status, error.reason)
    except Exception as error:
        status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
        if status is None:
            logger.exception("sandbox.control_failed", extra={"path": request.path})
            return problem(500, "the sandbox failed")
        return problem(status, str(error))


def problem(status: int, detail: str) -> web.Response:
    title = {400: "Bad request", 404: "Not found", 409: "Conflict", 422: "Impossible"}
    told = bodies.Problem(title.get(status, "Error"), status, detail)
    return web.Response(
        body=msgspec.json.encode(told), status=status, content_type="application/problem+json"
    )


def answer(value: object, status: int = 200) -> web.Response:
    data = msgspec.json.encode(value)
    return web.Response(body=data, status=status, content_type="application/json")


@functools.cache
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


async def body(request: web.Request, kind: type[T]) -> T:
    return _decoder(kind).decode(await request.read())


def query(request: web.Request, name: str, kind: type[T], default: T) -> T:
    """A parameter of the query; a value that does not fit is a problem."""
    text = request.query.get(name)
    return default if text is None else msgspec.convert(text, kind, strict=False)


def wait_of(request: web.Request) -> float:
    """How long the question may stay open, from its `wait`."""
    return min(max(query(request, "wait", float, 0.0), 0.0), MAX_WAIT)
