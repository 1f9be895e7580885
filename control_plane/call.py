"""One request, as its handler sees it: who calls, what they sent, and how to wait for AWS."""

import asyncio
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar, cast

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from control_plane.auth import Caller
from control_plane.plane import Plane
from control_plane.problems import Problem, invalid_parameter, misfit
from shared.ids import TenantId

T = TypeVar("T")

LONGEST_WAIT: Final = 25
"""Seconds `Prefer: wait` may ask for: an HTTP API gives up after 30."""
EMPTY: Final = b"{}"

_WAIT: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?([0-9]+)\"?\s*(?=$|[,;])", re.IGNORECASE)


class Call(Request[None, Caller, State]):
    """A Litestar request that decodes its body straight into the handler's type."""

    __slots__ = ()

    @property
    def plane(self) -> Plane:
        return cast("Plane", self.scope["litestar_app"].state["plane"])

    @property
    def tenant_id(self) -> TenantId:
        return self.auth.tenant_id

    @property
    def wait(self) -> int:
        """Seconds of `Prefer: wait=N` (RFC 7240), at most 25; 0 where it is not asked for."""
        asked = _WAIT.search(self.headers.get("prefer", ""))
        if asked is None:
            return 0
        # Three digits are more than may be waited for; a number of any length is cut to them.
        return min(int(asked[1].lstrip("0")[:3] or 0), LONGEST_WAIT)

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns; it may wait for AWS without holding up other requests."""
        threads = self.plane.threads
        if threads is None:
            return work()
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def check_query(self) -> None:
        """Raise Problem for a parameter that the route does not know, or that is given twice."""
        if not self.scope["query_string"]:
            return
        known = _parameters(self.route_handler)
        seen = set[str]()
        for name, _ in self.query_params.multi_items():
            if name not in known:
                detail = f"The parameter is not known here. Known: {', '.join(known) or 'none'}."
                raise invalid_parameter(name[:100], "unknown", detail)
            if name in seen:
                raise invalid_parameter(name, "repeated", "The parameter is given more than once.")
            seen.add(name)

    async def body(self) -> bytes:
        """The body; none at all is an object without fields."""
        return await super().body() or EMPTY

    async def json(self) -> Any:
        """The body, decoded once and strictly.

        Litestar would decode it to builtins, convert it leniently ("60" is a number) and lose the
        place where it does not fit.
        """
        body = await self.body()
        if body != EMPTY:
            kind, options = self.content_type
            if kind not in {"application/json", ""} and not kind.endswith("+json"):
                raise Problem("unsupported_media_type", "The body must be application/json.")
            if options.get("charset", "utf-8").lower() not in {"utf-8", "utf8"}:
                raise Problem("unsupported_media_type", "The body must be in UTF-8.")
            coding = self.headers.get("content-encoding", "").strip().lower()
            if coding not in {"", "identity"}:
                raise Problem("unsupported_media_type", "The body must not be compressed.")
        try:
            return _decoder(self.route_handler).decode(body)
        except msgspec.DecodeError as error:
            raise misfit(error, _decoder(self.route_handler).type) from None
        except (UnicodeDecodeError, RecursionError):
            raise misfit(msgspec.DecodeError()) from None


@cache
def _parameters(handler: HTTPRouteHandler) -> tuple[str, ...]:
    """What a handler's arguments from the query are called there; each takes a single value."""
    fields = handler.parsed_fn_signature.parameters.items()
    return tuple(
        field.kwarg_definition.name or argument
        for argument, field in fields
        if isinstance(field.kwarg_definition, QueryParameter)
    )


@cache
def _decoder(handler: HTTPRouteHandler) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(handler.parsed_fn_signature.parameters["data"].annotation)
