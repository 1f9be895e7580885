"""AWS, run: the one file that imports aioboto3.

Requests are values of `shared.store` and `shared.queue`; here they are sent. What AWS answers comes
back as the value's own type; that it did not answer comes back as `Unavailable`.
"""

import asyncio
import importlib.metadata
import random
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any, Final, Self, TypeVar, cast

import aioboto3
import msgspec
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError
from botocore.serialize import JSONSerializer

from shared.aws import Op, Params, Refusal, conflicted
from shared.env import Places
from shared.errors import Contended, Unavailable
from shared.queue import LONGEST_POLL

T = TypeVar("T")

CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 5.0
"""DynamoDB and SQS answer in milliseconds; what takes this long is lost, and a lease may hang on
it."""
POLL_SECONDS: Final = LONGEST_POLL + READ_SECONDS
ATTEMPTS: Final = 3
"""Of botocore, for what is worth repeating at once: throttling, 5xx, a broken connection."""
CONNECTIONS: Final = 64
"""Beside the long polls', which keep one each."""
CONFLICT_ATTEMPTS: Final = 8
CONFLICT_PAUSE: Final = 0.05
"""Seconds, times the attempt, jittered: another transaction is over in a few milliseconds."""

AGENT: Final = f"zapgate/{importlib.metadata.version('zapgate')}"
"""Told to AWS. botocore's own is put together anew for each request."""

_BUSY: Final = frozenset(
    {
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "ServiceUnavailable",
        "ThrottlingException",
        "Throttling",
    }
)

_OURS: Final = frozenset(
    {
        "AWS.SimpleQueueService.NonExistentQueue",
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "KMSAccessDeniedException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "QueueDoesNotExist",
        "RequestExpired",
        "ResourceNotFoundException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""Nothing is wrong with the request: we may not make it, or not now. Somebody has to mend a role, a
clock or a deployment, and until then every request fails alike."""

_jitter = random.SystemRandom().random


class Plain(JSONSerializer):
    """Parameters as the body they are: DynamoDB and SQS take the JSON they are written in.

    botocore walks them by its model first, which costs more than all the rest of a request; the
    models of these two services rename nothing, and bytes are base64 either way.
    """

    def serialize_to_request(self, parameters: Params, operation_model: Any) -> dict[str, Any]:
        bodiless = cast("dict[str, Any]", super().serialize_to_request({}, operation_model))  # pyright: ignore[reportUnknownMemberType] (botocore has no types)
        return {**bodiless, "body": msgspec.json.encode(parameters)}


class Aws:
    """The clients, open between `async with` and its end."""

    def __init__(self, places: Places) -> None:
        self.places = places
        """The table and queues that requests are bound to."""
        self._stack = AsyncExitStack()
        self._clients: dict[str, Any] = {}
        self.requests: Counter[tuple[str, str]] = Counter()
        """HTTP requests sent, repeats included, by service and action."""

    async def __aenter__(self) -> Self:
        # A poll holds its connection for 20 s: in a pool of their own, polls starve nobody.
        polls = self.places.shards + 4
        session: Any = aioboto3.Session()
        try:
            for name, service, connections, seconds in (
                ("dynamodb", "dynamodb", CONNECTIONS, READ_SECONDS),
                ("sqs", "sqs", CONNECTIONS, READ_SECONDS),
                ("poll", "sqs", polls, POLL_SECONDS),
            ):
                config = AioConfig(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=seconds,
                    max_pool_connections=connections,
                    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                    user_agent=AGENT,
                )
                client = await self._stack.enter_async_context(
                    session.client(service, config=config)
                )
                client.meta.events.register("before-send", self._count)
                client._serializer = Plain()  # noqa: SLF001 - the model gives no other say in it
                self._clients[name] = client
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def run(self, op: Op[T]) -> T:
        """Send one request.

        Raises:
            Unavailable: no answer, or AWS is busy or lets us do nothing. It may have been done.
            Contended: other transactions were at the same items every time.
        """
        name = "poll" if op.action == "receive_message" else op.service
        method = getattr(self._clients[name], op.action)
        for attempt in range(1, CONFLICT_ATTEMPTS + 1):
            try:
                return op.decode(await method(**op.params(self.places)))
            except ClientError as error:
                response: Any = error.response
                if conflicted(response):
                    await asyncio.sleep(CONFLICT_PAUSE * attempt * _jitter())
                    continue
                refusal = Refusal.of(response)
                if refusal is not None and op.refused is not None:
                    return op.refused(refusal)
                code = _busy(response)
                if code is None:
                    raise
                raise Unavailable(op.service, op.action, code) from error
            except BotoCoreError as error:
                raise Unavailable(op.service, op.action, type(error).__name__) from error
        raise Contended(f"{op.service}.{op.action} met other writers {CONFLICT_ATTEMPTS} times")

    def _count(self, event_name: str, **_rest: object) -> None:
        # `before-send.dynamodb.PutItem`
        _, service, action = event_name.split(".")
        self.requests[service, action] += 1


def _busy(response: Any) -> str | None:
    """The code of an error that will pass by itself; None for a defect of ours."""
    code: str = response["Error"].get("Code", "")
    reasons = {reason.get("Code", "None") for reason in response.get("CancellationReasons", [])}
    if (
        code in _BUSY | _OURS
        or response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
    ):
        return code
    if reasons & {"ThrottlingError", "ProvisionedThroughputExceeded"}:
        return "ThrottlingError"
    return None
