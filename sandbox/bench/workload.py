"""What is delivered in the figures of webhooks: received messages, as long as most are."""

from collections.abc import Iterator
from itertools import count
from typing import Final

from gateway.frames import Entry
from shared import clock, ids
from shared.events import MessageReceived, Party, ReceivedMessage, encode
from shared.ids import EventId, SessionId
from shared.message import Text

TEXT: Final = "Hello from the bench, as long as most messages are."


def entries(session_id: SessionId) -> Iterator[Entry]:
    """Journal entries of a session, one after the other, as its host would hand them over."""
    for sequence in count(1):
        now = clock.instant(clock.millis())
        event = MessageReceived(
            id=EventId(clock.mint(ids.EVENT)),
            timestamp=now,
            session_id=session_id,
            sequence=sequence,
            data=ReceivedMessage(
                whatsapp_id=f"3EB0{sequence:016X}",
                chat="+15551000000",
                sender=Party(phone_number="+15551000000", name="Contact"),
                content=Text(TEXT),
                sent_at=now,
            ),
        )
        yield Entry(sequence=sequence, event=event)


def bodies(session_id: SessionId) -> Iterator[tuple[EventId, bytes]]:
    """The same as they are posted: the id and the exact bytes."""
    for entry in entries(session_id):
        yield entry.event.id, encode(entry.event)
