"""Fields that several bodies have, with their bounds: msgspec enforces them, OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta

from control_plane.problems import invalid_value
from shared import clock, message

LONGEST_NAME: Final = 100

NAME: Final = (
    r"^(?=[\s\S]*[^\s\u200c\u200d\ufe0e\ufe0f])"
    r"[^\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    r"\u2060-\u206f\ufeff\ufff9-\ufffb]*$(?!\n)"
)
"""Something to see, and nothing that hides, breaks or turns a line round: no control characters, no
formatting ones. Joiners stay: emoji and Indic and Persian words are written with them. Python and
ECMAScript, which OpenAPI means, read it alike."""

Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=LONGEST_NAME,
        pattern=NAME,
        description="For you to recognise it by: no control or formatting characters.",
    ),
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
