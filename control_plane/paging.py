"""Lists in pages: signed cursors, good only for the tenant, list and filters they were made for."""

from collections.abc import Callable, Mapping
from typing import Annotated, Final, Generic, TypeVar, cast
from urllib.parse import parse_qsl, urlencode

import msgspec
from litestar import Response
from litestar.params import QueryParameter

from control_plane.call import Call
from control_plane.idempotency import reply
from control_plane.problems import Problem
from shared import signing
from shared.errors import Malformed
from shared.store.dynamo import Page, Range

T = TypeVar("T")
S = TypeVar("S")

DEFAULT_LIMIT: Final = 20
LARGEST_LIMIT: Final = 100

Limit = Annotated[
    int, QueryParameter(ge=1, le=LARGEST_LIMIT, description="How many to return at the most.")
]
Cursor = Annotated[
    str | None,
    QueryParameter(max_length=2_048, description="`next_cursor` of the page before."),
]


class PageOut(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A page of a list. Follow `next_cursor`, or the `Link` header, until `has_more` is false."""

    data: tuple[T, ...]
    has_more: bool
    next_cursor: str | None


def page(
    call: Call,
    name: str,
    limit: int,
    cursor: str | None,
    *,
    newest_first: bool = True,
) -> Range:
    """Which rows a request asks for. `name` says which list it is, filters included."""
    start: Mapping[str, str] | None = None
    if cursor is not None:
        start = cast("Mapping[str, str]", opened(call, name, cursor))
    return Range(limit, start, newest_first)


def answer(call: Call, name: str, rows: Page[S], out: Callable[[S], T]) -> Response[PageOut[T]]:
    """The page's rows as they are shown, and the way to the next."""
    following: str | None = None
    headers: dict[str, str] = {}
    if rows.next is not None:
        following = cursor_of(call, name, dict(rows.next))
        headers["Link"] = f'<{_with_cursor(call, following)}>; rel="next"'
    body = PageOut(
        data=tuple(out(row) for row in rows.rows),
        has_more=following is not None,
        next_cursor=following,
    )
    return reply(200, msgspec.json.encode(body), headers=headers)


def cursor_of(call: Call, name: str, place: object) -> str:
    """A cursor for a place in a list of the caller's."""
    return signing.sign_cursor(call.plane.keyring.cursors, _purpose(call, name), place)


def opened(call: Call, name: str, cursor: str) -> object:
    """The place `cursor_of` was given. Raises Problem for any other list's or tenant's cursor."""
    try:
        return signing.open_cursor(call.plane.keyring.cursors, _purpose(call, name), cursor)
    except Malformed:
        raise Problem(
            "invalid_cursor", "The cursor was not made for this list and these filters."
        ) from None


def _purpose(call: Call, name: str) -> str:
    return f"{call.tenant_id}|{name}"


def _with_cursor(call: Call, cursor: str) -> str:
    given = parse_qsl(call.scope["query_string"].decode("latin-1"))
    kept = [(name, value) for name, value in given if name != "cursor"]
    return f"{call.scope['path']}?{urlencode([*kept, ('cursor', cursor)])}"
