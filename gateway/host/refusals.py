"""What an error of sending means: was it refused, is it still to do, or does nobody know?

The texts are the library's (whatsmeow's `send.go`, `request.go`, `errors.go`). A message is
certainly not out when preparing it failed, or when WhatsApp answered with a code. Once the frame
was written and no answer came, nobody knows.
"""

import re
from dataclasses import dataclass
from typing import Final

from shared.message import Failure, FailureCode


@dataclass(frozen=True, slots=True)
class Refused:
    failure: Failure


@dataclass(frozen=True, slots=True)
class Unsent:
    """It did not go out for want of a connection: try again when there is one."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have gone out."""


Judgement = Refused | Unsent | Unknown

CODES: Final[dict[int, Failure]] = {
    429: Failure(
        code=FailureCode.RATE_LIMITED,
        detail="WhatsApp asks this account to send more slowly.",
        blame="account",
        retryable=True,
        whatsapp_code=429,
    ),
    463: Failure(
        code=FailureCode.REACHOUT_LIMITED,
        detail="WhatsApp does not let this account write to people who have not written to it.",
        blame="account",
        retryable=False,
        whatsapp_code=463,
    ),
    475: Failure(
        code=FailureCode.NEW_CHATS_CAPPED,
        detail="This account has begun as many new chats as WhatsApp lets it for now.",
        blame="account",
        retryable=True,
        whatsapp_code=475,
    ),
    479: Failure(
        code=FailureCode.REFUSED,
        detail="WhatsApp does not know this recipient by the address it was given.",
        blame="whatsapp",
        retryable=True,
        whatsapp_code=479,
    ),
}
"""WhatsApp's codes in the acknowledgement of a message."""

_CODE: Final = re.compile(r"server returned error (\d{1,6})")
_NO_CONNECTION: Final = (
    "websocket not connected",
    "websocket disconnected before info query",
    "info query timed out",
    "info query returned status 5",
)
_SENDING: Final = "failed to send message node: "
_SENDING_UNCONNECTED: Final = _SENDING + "websocket not connected"
_PREPARING: Final = (
    "failed to get ",
    "failed to fetch ",
    "failed to create ",
    "failed to marshal ",
    "failed to encrypt ",
    "failed to prefetch ",
    "failed to process ",
    "failed to clear ",
    "failed to save ",
    "failed to store ",
    "failed to send prekey request",
    "failed to send usync query",
    "cipher encryption failed",
    "can't encrypt ",
)
"""How errors of the steps before the frame is written begin."""
_INVALID: Final = ("message recipient must be", "can't send message to unknown server")
_STRANGER: Final = "no LID found for "
_ENDED: Final = ("the store doesn't contain a device JID", "client is nil")


def judge(error: str) -> Judgement:
    """What the library's error of a send means for the message."""
    if code := _CODE.search(error):
        return Refused(_coded(int(code[1])))
    if error.startswith(_STRANGER):
        return Refused(
            Failure(
                code=FailureCode.NOT_ON_WHATSAPP,
                detail="WhatsApp has no account for this number, or hides it.",
                blame="recipient",
                retryable=False,
            )
        )
    if error.startswith(_SENDING_UNCONNECTED):
        return Unsent()
    if error.startswith(_PREPARING):
        if any(text in error for text in _NO_CONNECTION):
            return Unsent()
        return Refused(_failure(FailureCode.REFUSED, "whatsapp", error, retryable=True))
    if error.startswith(_INVALID):
        return Refused(_failure(FailureCode.INVALID, "request", error))
    if error.startswith(_ENDED):
        return Refused(ENDED)
    return Unknown()


ENDED: Final = Failure(
    code=FailureCode.SESSION_ENDED,
    detail="The session ended before the message could be sent.",
    blame="account",
    retryable=False,
)

UNFIT: Final = Failure(
    code=FailureCode.INVALID,
    detail="The message cannot be written in WhatsApp's format.",
    blame="request",
    retryable=False,
)

EXPIRED: Final = Failure(
    code=FailureCode.EXPIRED,
    detail="Its time was over before it could be sent.",
    blame="request",
    retryable=True,
)


def _coded(code: int) -> Failure:
    known = CODES.get(code)
    if known is not None:
        return known
    return Failure(
        code=FailureCode.REFUSED,
        detail=f"WhatsApp refused the message with code {code}.",
        blame="whatsapp",
        retryable=code >= 500,
        whatsapp_code=code,
    )


_NUMBERS: Final = re.compile(r"\d{5,}")


def _failure(code: FailureCode, blame: str, error: str, *, retryable: bool = False) -> Failure:
    detail = f"The message could not be prepared: {_NUMBERS.sub('…', error)[:200]}"
    if blame == "request":
        return Failure(code=code, detail=detail, blame="request", retryable=retryable)
    return Failure(code=code, detail=detail, blame="whatsapp", retryable=retryable)
