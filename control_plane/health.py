"""Whether the process answers at all: for load balancers, without a key and without AWS."""

from typing import Final

import msgspec
from litestar import Response, get
from litestar.params import FromPath

from control_plane.idempotency import reply
from control_plane.problems import KINDS, TYPES_PATH, Kind, not_found


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """It is up."""

    status: str


@get("/healthz")
async def health() -> Response[Health]:
    """Say that the process is up."""
    return reply(200, b'{"status":"ok"}')


@get(f"{TYPES_PATH}/{{code:str}}")
async def read_problem_type(code: FromPath[str]) -> Response[Kind]:
    """Read what a problem's `code` means: its `type` links here."""
    kind = KINDS.get(code)
    if kind is None:
        raise not_found("problem type")
    return reply(200, msgspec.json.encode(kind))


ROUTES: Final = [health, read_problem_type]
