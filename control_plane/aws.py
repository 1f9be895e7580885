"""The one place that speaks to AWS: runs an `Op` with boto3.

Foreign errors stop here. A failed condition becomes what the operation says it means, an AWS that
does not answer becomes `Unavailable`, and only a defect of ours is raised as botocore raised it.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Final, Protocol, TypeVar, cast

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.aws import Op, Params, Refusal, Response, conflicted
from shared.env import Places
from shared.errors import Contended, Unavailable

T = TypeVar("T")

CONNECT_SECONDS: Final = 2
READ_SECONDS: Final = 5
"""An AWS that takes longer than this for one row is not going to answer: better to try again."""
ATTEMPTS: Final = 3
"""Requests botocore makes of one, with pauses; together they stay under the 30 s of an HTTP API."""
CONFLICT_ATTEMPTS: Final = 6
"""Runs of a transaction that keeps meeting another one; the last waits up to half a second."""
CONFLICT_PAUSE: Final = 0.02
POOL: Final = 40
"""Connections kept to a service: one for each thread that may be asking."""

UNAVAILABLE: Final = frozenset(
    {
        "InternalFailure",
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
    }
)
"""Codes by which AWS says that it could not, not that we asked wrongly. 5xx statuses say so too."""


class Runner(Protocol):
    """Whoever can run an operation."""

    def run(self, op: Op[T], /) -> T: ...


class Aws:
    """Clients of one session, made when first needed; any thread may use them."""

    def __init__(self, places: Places, clients: Mapping[str, Any] | None = None) -> None:
        """`clients` by service stand in for boto3's."""
        self._places = places
        self._session: Any = None
        self._clients: dict[str, Any] = dict(clients or {})
        self._lock = Lock()
        self.counts: Counter[tuple[str, str]] = Counter()
        """Requests made, botocore's own repetitions included, by service and action."""

    def run(self, op: Op[T]) -> T:
        """The operation's answer. Raises Unavailable, Contended, or ClientError for a defect."""
        method = self._method(op.service, op.action)
        params = op.params(self._places)
        for attempt in range(CONFLICT_ATTEMPTS):
            if attempt:
                # Full jitter: whoever collided must not meet again.
                time.sleep(random.uniform(0, CONFLICT_PAUSE * 2**attempt))  # noqa: S311 - no secret
            try:
                response = self._ask(op, method, params)
            except ClientError as error:
                told = _told(error)
                if conflicted(told):
                    continue
                refusal = Refusal.of(told)
                if refusal is None or op.refused is None:
                    raise
                return op.refused(refusal)
            return op.decode(response)
        raise Contended(f"{op.service}.{op.action}")

    def secret(self, arn: str) -> str:
        """The text of a secret of Secrets Manager."""
        op = Op(
            "secretsmanager",
            "get_secret_value",
            lambda _: {"SecretId": arn},
            lambda response: str(response["SecretString"]),
        )
        return self.run(op)

    def warm(self) -> None:
        """Make the clients every request needs, so that the first one need not wait for them."""
        self._method("dynamodb", "get_item")
        self._method("sqs", "send_message")

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _ask(self, op: Op[Any], method: Callable[..., Response], params: Params) -> Response:
        try:
            response = method(**params)
        except ClientError as error:
            told = _told(error)
            self._count(op, told)
            code: str = told.get("Error", {}).get("Code", "")
            status: int = told.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in UNAVAILABLE or status >= 500:
                raise Unavailable(op.service, op.action, code) from error
            raise
        except BotoCoreError as error:
            self._count(op, {})
            raise Unavailable(op.service, op.action, type(error).__name__) from error
        self._count(op, response)
        return response

    def _count(self, op: Op[Any], response: Response) -> None:
        again = response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
        with self._lock:
            self.counts[op.service, op.action] += 1 + again

    def _method(self, service: str, action: str) -> Callable[..., Response]:
        client = self._clients.get(service)
        if client is None:
            # Making clients is the one thing a boto3 session does not let threads do at a time.
            with self._lock:
                client = self._clients.get(service) or self._make(service)
                self._clients[service] = client
        method: Callable[..., Response] = getattr(client, action)
        return method

    def _make(self, service: str) -> Any:
        if self._session is None:
            self._session = Session()
        client: Any = self._session.client(service, config=_CONFIG)
        return client


def _told(error: ClientError) -> Response:
    """What AWS said, as botocore read it."""
    return cast("Response", error.response)  # pyright: ignore[reportUnknownMemberType] - untyped


_CONFIG: Final = Config(
    connect_timeout=CONNECT_SECONDS,
    read_timeout=READ_SECONDS,
    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    max_pool_connections=POOL,
    # Our operations are few and tested: checking each against AWS's model again costs every request
    # a third of its time in botocore.
    parameter_validation=False,
)
