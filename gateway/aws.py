"""AWS, run: the one file that imports aioboto3.

Requests are values of `shared.store` and `shared.queue`; here they are sent. What AWS answers comes
back as the value's own type; that it did not answer comes back as `Unavailable`.
"""

import asyncio
import importlib.metadata
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any, Final, Self, TypeVar, cast

import aioboto3
import msgspec
from aiobotocore.config import AioConfig
from aiohttp import ThreadedResolver
from botocore.exceptions import BotoCoreError, ClientError
from botocore.serialize import JSONSerializer

from gateway.deadlines import Deadlines
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
HUNG_SECONDS: Final = 30.0
"""More than all attempts of a request with all their timeouts and pauses (24 at the most): one that
takes longer stands still inside the client, and is cut off."""
POLL_HUNG_SECONDS: Final = 40.0
"""Likewise, of a poll's first attempt; a loop that polls must never look as if it stood still."""
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
        self._session: Any = aioboto3.Session()
        self._clients: dict[str, Any] = {}
        self._stacks: dict[str, AsyncExitStack] = {}
        self._retired: list[tuple[float, AsyncExitStack]] = []
        self._deadlines: dict[str, Deadlines] = {}
        self.requests: Counter[tuple[str, str]] = Counter()
        """HTTP requests sent, repeats included, by service and action."""
        self.hung: Counter[tuple[str, str]] = Counter()
        """Requests that were cut off because the client stood still, likewise."""

    async def __aenter__(self) -> Self:
        try:
            for name in ("dynamodb", "sqs", "poll"):
                limit = POLL_HUNG_SECONDS if name == "poll" else HUNG_SECONDS
                self._deadlines[name] = Deadlines(limit)
                await self._open(name)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for deadlines in self._deadlines.values():
            deadlines.close()
        for stack in (*self._stacks.values(), *(stack for _, stack in self._retired)):
            await stack.aclose()

    async def renew(self, name: str) -> None:
        """Give a client (`dynamodb`, `sqs` or `poll`) new connections.

        What is under way with its old ones may still end; they are closed some time later.
        """
        now = time.monotonic()
        old = self._stacks[name]
        await self._open(name)
        self._retired.append((now, old))
        while self._retired and now - self._retired[0][0] > POLL_HUNG_SECONDS:
            _, stack = self._retired.pop(0)
            await stack.aclose()

    async def _open(self, name: str) -> None:
        # A poll holds its connection for 20 s: in a pool of their own, polls starve nobody.
        polls = name == "poll"
        config = AioConfig(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=POLL_SECONDS if polls else READ_SECONDS,
            max_pool_connections=self.places.shards + 4 if polls else CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            user_agent=AGENT,
            # The system's resolver, whatever else resolves names in this process.
            connector_args={"resolver": ThreadedResolver()},
        )
        stack = AsyncExitStack()
        service = "sqs" if polls else name
        client = await stack.enter_async_context(self._session.client(service, config=config))
        client.meta.events.register("before-send", self._count)
        client._serializer = Plain()  # noqa: SLF001 - the model gives no other say in it
        # Where to is known once and for all; asked for each request, it reads every item of
        # a transaction for the tables it names.
        client._ruleset_resolver = None  # noqa: SLF001 - likewise
        self._clients[name], self._stacks[name] = client, stack

    async def run(self, op: Op[T]) -> T:
        """Send one request.

        Raises:
            Unavailable: no answer, or AWS is busy or lets us do nothing. It may have been done.
            Contended: other transactions were at the same items every time.
        """
        name = "poll" if op.action == "receive_message" else op.service
        for attempt in range(1, CONFLICT_ATTEMPTS + 1):
            try:
                return op.decode(await self._send(name, op))
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

    async def _send(self, name: str, op: Op[Any]) -> Any:
        deadlines = self._deadlines[name]
        method = getattr(self._clients[name], op.action)
        try:
            async with asyncio.timeout(None) as timeout:
                deadlines.begin(timeout)
                try:
                    return await method(**op.params(self.places))
                finally:
                    deadlines.end(timeout)
        except TimeoutError:
            self.hung[op.service, op.action] += 1
            raise Unavailable(op.service, op.action, "hung") from None

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
