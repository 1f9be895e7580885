"""Plays a script with boto3: what any program would have to do to make the same requests."""

from collections import defaultdict, deque
from typing import Any, Final

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.bench.script import Mint, Part, Step

CONFIG: Final = Config(
    # As our control plane has it: the comparison is about what lies around the calls.
    parameter_validation=False,
    max_pool_connections=40,
)


class Player:
    """Clients for the AWS of this environment (or of `endpoint`), and handles in hand."""

    def __init__(self, mint: Mint, **how: Any) -> None:
        session: Any = Session()
        self._clients: dict[str, Any] = {
            name: session.client(name, config=CONFIG, **how) for name in ("dynamodb", "sqs")
        }
        self._methods: dict[tuple[str, str], Any] = {}
        self._mint = mint
        self._handles: defaultdict[str, deque[str]] = defaultdict(deque)
        self.refused = 0
        """Requests whose condition failed: cheaper than what was recorded, so to be told."""

    def play(self, part: Part) -> None:
        """Make the requests of a part, one after the other, with new ids."""
        ids = part.fresh(self._mint)
        for step in part.steps:
            self._ask(step, step.params(ids))

    def _ask(self, step: Step, params: dict[str, Any]) -> None:
        if "Entries" in params or "ReceiptHandle" in params:
            self._hold_ours(params)
        if step.action == "ReceiveMessage":
            params["WaitTimeSeconds"] = 0
        try:
            answer = self._method(step)(**params)
        except ClientError as error:
            # A condition that fails, as it did when it was recorded or because ids are new: the
            # request was made all the same. Anything else is a defect of the script.
            if error.response["Error"]["Code"] not in _EXPECTED:
                raise
            self.refused += 1
            return
        if step.action == "ReceiveMessage":
            handles = self._handles[params["QueueUrl"]]
            handles.extend(each["ReceiptHandle"] for each in answer.get("Messages", []))

    def _hold_ours(self, params: dict[str, Any]) -> None:
        """Settle what we received, not what was received when this was recorded."""
        handles = self._handles[params["QueueUrl"]]
        for each in params.get("Entries", [params]):
            if "ReceiptHandle" in each and handles:
                each["ReceiptHandle"] = handles.popleft()

    def _method(self, step: Step) -> Any:
        known = self._methods.get((step.service, step.action))
        if known is None:
            known = getattr(self._clients[step.service], step.method)
            self._methods[step.service, step.action] = known
        return known


_EXPECTED: Final = frozenset(
    {"ConditionalCheckFailedException", "TransactionCanceledException", "ReceiptHandleIsInvalid"}
)
