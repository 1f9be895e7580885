"""Fields that several bodies have, with their bounds: msgspec enforces them, OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta

from control_plane.problems import invalid_value
from shared import clock, message

LONGEST_NAME: Final = 100

Name = Annotated[
    str,
    Meta(min_length=1, max_length=LONGEST_NAME, description="For you to recognise it by."),
]
PhoneNumber = Annotated[
    str,
    Meta(description="A phone number in E.164.", examples=["+4915112345678"]),
]


def phone_number(value: str | None, pointer: str = "/phone_number") -> str | None:
    """The number, if it is one. Raises Problem."""
    if value is not None and not message.is_e164(value):
        raise invalid_value(
            pointer, "not_e164", "A phone number is written in E.164, as in +4915112345678."
        )
    return value


def instant(moment: int | None) -> datetime | None:
    """Milliseconds as RFC 3339 shows them."""
    return None if moment is None else clock.instant(moment)
