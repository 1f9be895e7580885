"""What an error of a send means for the message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.host.refusals import Refused, Unknown, Unsent, judge
from shared.message import FailureCode

CASES = [
    ("server returned error 463", FailureCode.REACHOUT_LIMITED),
    ("server returned error 475", FailureCode.NEW_CHATS_CAPPED),
    ("server returned error 479", FailureCode.REFUSED),
    ("server returned error 429", FailureCode.RATE_LIMITED),
    ("server returned error 400", FailureCode.REFUSED),
    ("no LID found for 4915112345679@s.whatsapp.net from server", FailureCode.NOT_ON_WHATSAPP),
    ("failed to get group members: you're not participating in that group", FailureCode.REFUSED),
    ("failed to get device list: info query returned status 406: x", FailureCode.REFUSED),
    ("message recipient must be a user JID with no device part", FailureCode.INVALID),
    ("can't send message to unknown server example", FailureCode.INVALID),
    ("the store doesn't contain a device JID", FailureCode.SESSION_ENDED),
]


@pytest.mark.parametrize(("error", "code"), CASES, ids=[each[0][:30] for each in CASES])
def test_refusals(error: str, code: FailureCode) -> None:
    """What is certain not to have gone out is a failure with a code, and no number in its words."""
    judgement = judge(error)
    assert isinstance(judgement, Refused)
    assert judgement.failure.code is code
    assert "4915112345679" not in judgement.failure.detail


@pytest.mark.parametrize(
    "error",
    [
        "failed to send message node: websocket not connected",
        "failed to get user info for 1@s.whatsapp.net to fill LID cache: websocket not connected",
        "failed to get device list: failed to send usync query: info query timed out",
        "failed to get device list: websocket disconnected before info query returned response",
    ],
    ids=str,
)
def test_what_found_no_connection_is_still_to_do(error: str) -> None:
    """Nothing was written: it may be tried again without fear of a double."""
    assert judge(error) == Unsent()


@pytest.mark.parametrize(
    "error",
    [
        "timed out waiting for message send response",
        "websocket disconnected before message send returned response",
        # After a frame was written and the connection lost, the retry found none.
        "websocket not connected",
        "failed to send message node: failed to write frame: broken pipe",
        "context canceled",
        "",
    ],
    ids=str,
)
def test_what_may_have_gone_out_is_not_guessed_about(error: str) -> None:
    """The frame may have been written, or the words are new."""
    assert judge(error) == Unknown()


@pytest.mark.parametrize(
    ("code", "retryable"), [(429, True), (475, True), (463, False), (503, True), (404, False)]
)
def test_codes_say_whether_to_try_again(code: int, *, retryable: bool) -> None:
    """The number WhatsApp gave is passed on."""
    judgement = judge(f"server returned error {code}")
    assert isinstance(judgement, Refused)
    assert (judgement.failure.whatsapp_code, judgement.failure.retryable) == (code, retryable)


@given(st.text())
def test_every_error_is_judged(error: str) -> None:
    """No words of the library, however odd, end the host."""
    assert isinstance(judge(error), Refused | Unsent | Unknown)
