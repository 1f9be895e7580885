"""`Idempotency-Key`: a request that is repeated is done once and answered the same.

The key is taken before the work and finished with its answer (draft-ietf-httpapi-idempotency-key).
Another path or body under the same key is 422, a repeat while the first runs 409. Work that raised
did nothing that counts, so it gives the key back; work that cannot say whether it did leaves the
key for the next repeat to find out. Only answers that say "done" are kept.
"""

import hashlib
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, cast

import msgspec
from litestar import Response

from control_plane.call import Call
from control_plane.problems import Problem, Undecided
from shared import sealing
from shared.errors import ZapgateError
from shared.ids import TenantId
from shared.logs import fields
from shared.store import idempotency
from shared.store.idempotency import Claim, Record

T = TypeVar("T")

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1
MEDIA_TYPE: Final = "application/json"
NO_CONTENT: Final = 204

_QUOTED: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
"""A structured-field string (RFC 9651)."""
_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What work came to."""

    status: int
    body: T
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The answer of now, or of the first time: then `body` is None."""

    response: Response[T]
    body: T | None


async def once(call: Call, work: Callable[[], Answer[T]], *, secret: bool = False) -> Done[T]:
    """Do the work, unless a request with the same key has. `secret` answers are kept sealed."""
    claim = await _claim(call)

    def begin_and_work() -> Done[T]:
        if claim is None:
            return _done(work())
        taken = call.plane.aws.run(idempotency.begin(claim))
        if taken is not None:
            return _repeat(call, claim, taken, secret=secret)
        return _carry(call, claim, work, secret=secret)

    return await call.run(begin_and_work)


async def once_together(call: Call, work: Callable[[Claim | None], Answer[T] | Record]) -> Done[T]:
    """As `once`, for work that takes the key in its own transaction; the record if it is taken.

    A record that the claim resumes is not for the answer: the work has to go on with it.
    """
    claim = await _claim(call)

    def begin_with_work() -> Done[T]:
        if claim is None:
            return _done(cast("Answer[T]", work(None)))
        return _carry(call, claim, lambda: work(claim), secret=False)

    return await call.run(begin_with_work)


def _carry(
    call: Call, claim: Claim, work: Callable[[], Answer[T] | Record], *, secret: bool
) -> Done[T]:
    aws = call.plane.aws
    try:
        answer = work()
    except Exception as error:
        end = idempotency.abandon if isinstance(error, Undecided) else idempotency.release
        try:
            aws.run(end(claim))
        except ZapgateError:
            # It lapses by itself when its lease does.
            log.warning("idempotency.not_released", extra=_fields(call))
        raise
    if isinstance(answer, Record):
        return _repeat(call, claim, answer, secret=secret)
    done = _done(answer)
    body: bytes = cast("bytes", done.response.content)
    if secret:
        body = sealing.seal(
            call.plane.keyring.seals,
            _owner(claim),
            body.decode(),
            secrets.token_bytes(sealing.NONCE_BYTES),
        )
    try:
        aws.run(idempotency.finish(claim, answer.status, body, answer.location))
    except ZapgateError:
        # The work is done, and whoever asked must hear so; a repeat may do it again.
        log.warning("idempotency.not_finished", extra=_fields(call))
    return done


def _done(answer: Answer[T]) -> Done[T]:
    body = b"" if answer.status == NO_CONTENT else msgspec.json.encode(answer.body)
    return Done(reply(answer.status, body, answer.location), answer.body)


def reply(
    status: int,
    body: bytes,
    location: str | None = None,
    headers: dict[str, str] | None = None,
    media_type: str = MEDIA_TYPE,
) -> Response[T]:
    """An answer whose body is encoded already."""
    given = dict(headers or {})
    if location is not None:
        given["Location"] = location
    return Response(
        content=cast("T", body), status_code=status, headers=given, media_type=media_type
    )


def _repeat(call: Call, claim: Claim, record: Record, *, secret: bool) -> Done[T]:
    if record.fingerprint != claim.fingerprint:
        raise Problem(
            "idempotency_key_reused",
            "This idempotency key stands for another request: another path or body.",
        )
    if record.status is None:
        raise Problem(
            "request_running",
            "The first request with this idempotency key is still running.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )
    body = record.body
    if secret:
        body = sealing.unseal(call.plane.keyring.seals, _owner(claim), body).encode()
    replayed = {"Idempotent-Replayed": "true"}
    return Done(reply(record.status, body, record.location, replayed), None)


async def _claim(call: Call) -> Claim | None:
    given = call.headers.get("idempotency-key")
    if given is None:
        return None
    digest = hashlib.sha256(f"{call.scope['method']}\n{call.scope['path']}\n".encode())
    digest.update(await call.body())
    return Claim(
        tenant_id=TenantId(call.tenant_id),
        scope=f"{call.scope['method']} {call.scope['path_template']}",
        key=parse_key(given),
        fingerprint=digest.hexdigest(),
        owner=secrets.token_hex(8),
        now=call.plane.now(),
    )


def parse_key(header: str) -> str:
    """The key of a header, quoted as the draft has it or bare. Raises Problem."""
    text = header.strip()
    if text.startswith('"'):
        quoted = _QUOTED.fullmatch(text)
        text = re.sub(r'\\(["\\])', r"\1", quoted[1]) if quoted else ""
    if not _KEY.fullmatch(text):
        raise Problem("invalid_idempotency_key")
    return text


def _owner(claim: Claim) -> str:
    return "/".join(claim.row)


def _fields(call: Call) -> dict[str, object]:
    return fields(request_id=call.scope["state"].get("request_id"), tenant_id=call.tenant_id)
