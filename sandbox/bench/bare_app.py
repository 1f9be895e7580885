"""A bare Litestar app that accepts a message: a msgspec body, the AWS requests, the answer.

No keys, scopes, limits, idempotency, signatures or problems: what is left when a web framework and
boto3 do the same work at AWS. `BENCH_SCRIPT` names the file with the parts it plays, one a request.
"""

import itertools
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from litestar import Litestar, get, post
from litestar.params import FromPath, JSONBody

from sandbox.bench.replay import Player
from sandbox.bench.script import Part, minting


class MessageIn(msgspec.Struct, forbid_unknown_fields=True):
    to: str
    text: str


class MessageOut(msgspec.Struct):
    id: str
    to: str
    text: str
    status: Literal["queued"] = "queued"


def parts() -> list[Part]:
    path = Path(os.environ["BENCH_SCRIPT"])  # noqa: TID251 - a program without settings of ours
    return msgspec.msgpack.decode(path.read_bytes(), type=list[Part])


def app(script: Sequence[Part]) -> Litestar:
    player = Player(minting(secrets.randbits(16)))
    turns = itertools.cycle(script)

    @get("/healthz", sync_to_thread=False)
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @post("/v1/sessions/{session_id:str}/messages", status_code=202, sync_to_thread=True)
    def send(session_id: FromPath[str], data: JSONBody[MessageIn]) -> MessageOut:
        player.play(next(turns))
        return MessageOut(id=session_id, to=data.to, text=data.text)

    return Litestar(route_handlers=[health, send])


def create_app() -> Litestar:
    return app(parts())
