"""Raw neonize behind a FIFO queue: a loop that receives, sends, deletes, and nothing else."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from sandbox.aws import EmbeddedAws
from sandbox.bench.raw import Raw
from shared import clock

LONGEST_POLL: Final = 20
"""Seconds, as SQS has it and our gateway asks for."""
_OVER: Final = "over"


class BehindQueue:
    """The queue, and the loop behind it."""

    def __init__(self, sqs: Any, url: str, raw: Raw, contact: str) -> None:
        self._sqs = sqs
        self._url = url
        self._raw = raw
        self._contact = contact

    async def put(self, text: str) -> float:
        """Queue a text for the contact; the moment of the answer."""

        def put() -> float:
            self._sqs.send_message(
                QueueUrl=self._url,
                MessageBody=text,
                MessageGroupId="raw",
                MessageDeduplicationId=clock.mint("cmd"),
            )
            return time.monotonic()

        return await asyncio.to_thread(put)

    async def run(self) -> None:
        """Until `over`. What was received is sent while the next poll is under way."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                answer = await asyncio.to_thread(
                    self._sqs.receive_message,
                    QueueUrl=self._url,
                    WaitTimeSeconds=LONGEST_POLL,
                    MaxNumberOfMessages=10,
                )
                for message in answer.get("Messages", []):
                    if message["Body"] == _OVER:
                        return
                    tasks.create_task(self._one(message))

    async def over(self) -> None:
        """End the loop: nothing else ends a long poll."""
        await self.put(_OVER)

    async def _one(self, message: dict[str, str]) -> None:
        await self._raw.send(self._contact, [message["Body"]])
        await asyncio.to_thread(
            self._sqs.delete_message,
            QueueUrl=self._url,
            ReceiptHandle=message["ReceiptHandle"],
        )


@asynccontextmanager
async def behind_queue(aws: EmbeddedAws, raw: Raw, contact: str) -> AsyncGenerator[BehindQueue]:
    """Put a raw client behind a queue of its own."""
    sqs = aws.client("sqs")
    made = await asyncio.to_thread(
        sqs.create_queue, QueueName="raw.fifo", Attributes={"FifoQueue": "true"}
    )
    queue = BehindQueue(sqs, made["QueueUrl"], raw, contact)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(queue.run())
        try:
            yield queue
        finally:
            await queue.over()
