"""What follows from each way a socket can end."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neonize.proto.Neonize_pb2 import (
    JID,
    ConnectFailure,
    ConnectFailureReason,
    Disconnected,
    KeepAliveTimeout,
    LoggedOut,
    Node,
    PairStatus,
    StreamError,
    TemporaryBan,
)

from gateway.host.disconnects import (
    BANS,
    SILENT,
    STATUSES,
    UNKNOWN_BAN,
    Fate,
    Verdict,
    gave_up,
    status,
    undialled,
    words,
)
from gateway.host.events import CODES, read
from shared.session import Reason, Trigger

_F = ConnectFailureReason
NOW = 1_000_000

ENDS = [
    (6, LoggedOut(OnConnect=True, Reason=_F.LOGGED_OUT), Trigger.LOG_OUT, Reason.REMOVED_ON_PHONE),
    (6, LoggedOut(OnConnect=False, Reason=_F.LOGGED_OUT), Trigger.LOG_OUT, Reason.REMOVED_ON_PHONE),
    (
        6,
        LoggedOut(OnConnect=True, Reason=_F.MAIN_DEVICE_GONE),
        Trigger.LOG_OUT,
        Reason.ACCOUNT_LOCKED,
    ),
    (6, LoggedOut(OnConnect=True, Reason=_F.UNKNOWN_LOGOUT), Trigger.BAN, Reason.ACCOUNT_BANNED),
    (6, LoggedOut(OnConnect=True, Reason=_F.GENERIC), Trigger.LOG_OUT, Reason.REMOVED_ON_PHONE),
    (9, _F.GENERIC, Trigger.FAIL, Reason.CONNECTION_REFUSED),
    (9, _F.LOGGED_OUT, Trigger.LOG_OUT, Reason.REMOVED_ON_PHONE),
    (9, _F.TEMP_BANNED, Trigger.BAN, Reason.TEMPORARILY_BANNED),
    (9, _F.MAIN_DEVICE_GONE, Trigger.LOG_OUT, Reason.ACCOUNT_LOCKED),
    (9, _F.UNKNOWN_LOGOUT, Trigger.BAN, Reason.ACCOUNT_BANNED),
    (9, _F.CLIENT_OUTDATED, Trigger.FAIL, Reason.CLIENT_OUTDATED),
    (9, _F.BAD_USER_AGENT, Trigger.FAIL, Reason.CONNECTION_REFUSED),
    (9, _F.EXPERIMENTAL, Trigger.FAIL, Reason.CONNECTION_REFUSED),
]


def failure(reason: Any, message: str = "") -> ConnectFailure:
    return ConnectFailure(Reason=reason, Message=message, Raw=Node(Tag="failure"))


def verdict(code: int, payload: bytes) -> Verdict:
    found = read(code, payload, NOW)
    assert isinstance(found, Verdict)
    return found


@pytest.mark.parametrize(
    ("code", "event", "trigger", "reason"),
    ENDS,
    ids=[f"{each[0]}-{i}" for i, each in enumerate(ENDS)],
)
def test_ends(code: int, event: object, trigger: Trigger, reason: Reason) -> None:
    """Each of these ends the session, and says why in a code."""
    made = failure(event) if isinstance(event, int) else event
    found = verdict(code, made.SerializeToString())  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType] (any of the library's messages)
    assert found.fate is Fate.END
    assert found.change is not None
    assert (found.change.trigger, found.change.reason) == (trigger, reason)


@pytest.mark.parametrize("reason", [_F.INTERNAL_SERVER_ERROR, _F.SERVICE_UNAVAILABLE], ids=str)
def test_trouble_of_whatsapps_own_is_tried_again(reason: int) -> None:
    """A new process dials: the library does not after this event."""
    found = verdict(9, failure(reason).SerializeToString())
    assert found.fate is Fate.AGAIN
    assert found.change is not None
    assert found.change.trigger is Trigger.DROP


@pytest.mark.parametrize("reason", _F.values(), ids=str)
def test_every_failure_has_a_verdict(reason: int) -> None:
    """None of the library's reasons is met unprepared, and WhatsApp's words are passed on."""
    found = verdict(9, failure(reason, "because").SerializeToString())
    assert found.fate is not Fate.STAY
    assert found.change is not None
    assert found.change.detail == "because"


@pytest.mark.parametrize("code", TemporaryBan.TempBanReason.values(), ids=str)
def test_a_temporary_ban_says_why_and_until_when(code: Any) -> None:
    """`Expire` is seconds from now."""
    found = verdict(8, TemporaryBan(Code=code, Expire=60).SerializeToString())
    assert found.fate is Fate.END
    assert found.change is not None
    assert (found.change.trigger, found.change.until) == (Trigger.BAN, NOW + 60_000)
    assert found.change.detail == BANS[code]


def test_what_the_library_mends_by_itself() -> None:
    """A drop, a keepalive that fails or comes back, a stream error: the host stays."""
    drop = verdict(12, Disconnected(status=True).SerializeToString())
    assert drop.fate is Fate.STAY
    assert drop.change is not None
    assert drop.change.reason is Reason.CONNECTION_LOST
    once = KeepAliveTimeout(ErrorCount=1, LastSuccess=1).SerializeToString()
    assert verdict(4, once).change is None
    back = verdict(5, b"").change
    assert back is not None
    assert back.trigger is Trigger.CONNECT
    error = StreamError(Code="516", Raw=Node(Tag="stream:error")).SerializeToString()
    assert verdict(11, error) == Verdict(Fate.STAY)


def test_a_connection_that_is_not_answered_is_given_up() -> None:
    """A new process dials: the library waits for minutes."""
    twice = KeepAliveTimeout(ErrorCount=2, LastSuccess=1).SerializeToString()
    assert verdict(4, twice) == SILENT
    assert SILENT.fate is Fate.AGAIN


def test_ends_without_a_reason_of_their_own() -> None:
    """Replaced and outdated carry nothing but themselves."""
    for code, reason in ((7, Reason.REPLACED), (10, Reason.CLIENT_OUTDATED)):
        found = verdict(code, b"")
        assert found.fate is Fate.END
        assert found.change is not None
        assert found.change.reason is reason


def test_pairing_succeeds_or_is_refused() -> None:
    """The phone's word, or the last step's error."""
    who = JID(User="1", Server="lid", Device=1, RawAgent=0, Integrator=0, IsEmpty=False)
    good = PairStatus(ID=who, BusinessName="", Platform="", Status=PairStatus.SUCCESS, Error="")
    bad = PairStatus(ID=who, BusinessName="", Platform="", Status=PairStatus.ERROR, Error="no hmac")
    paired = verdict(2, good.SerializeToString())
    assert paired.fate is Fate.STAY
    assert paired.change is not None
    assert paired.change.trigger is Trigger.PAIRED
    refused = verdict(2, bad.SerializeToString())
    assert refused.fate is Fate.END
    assert refused.change is not None
    assert (refused.change.reason, refused.change.detail) == (Reason.PAIRING_REFUSED, "no hmac")


@pytest.mark.parametrize(
    ("text", "early", "fate", "trigger"),
    [
        ("success", True, Fate.STAY, None),
        ("error", True, Fate.STAY, None),
        ("err-scanned-without-multidevice", True, Fate.STAY, None),
        ("something-new", False, Fate.STAY, None),
        ("timeout", False, Fate.END, Trigger.EXPIRE),
        ("timeout", True, Fate.AGAIN, Trigger.DROP),
        ("err-client-outdated", True, Fate.END, Trigger.FAIL),
        ("err-unexpected-state", True, Fate.END, Trigger.FAIL),
        ("passkey-request", True, Fate.END, Trigger.PASSKEY),
    ],
    ids=str,
)
def test_login_statuses(text: str, *, early: bool, fate: Fate, trigger: Trigger | None) -> None:
    """All that is heard of a failed pairing; a timeout before its time is a lost connection."""
    found = status(text, early=early)
    assert found.fate is fate
    assert (None if found.change is None else found.change.trigger) == trigger
    assert set(STATUSES) >= {"success", "timeout", "passkey-request"}


def test_a_ban_that_the_library_cannot_tell_is_one_all_the_same() -> None:
    """Its code is new to the library, which ends: not to log in for a while is to obey it."""
    error = "proto: required field Neonize.TemporaryBan.Code not set"
    found = gave_up(error, NOW)
    assert found.fate is Fate.END
    assert found.change is not None
    assert found.change.reason is Reason.TEMPORARILY_BANNED
    assert found.change.until == NOW + UNKNOWN_BAN
    assert gave_up("dial tcp: refused", NOW) == undialled("dial tcp: refused")


def test_a_failed_dial_is_tried_again_and_says_why() -> None:
    """The library does not dial a first time twice, so a new process does."""
    found = undialled("proxyconnect tcp: dial http://user:pass@10.0.0.1:8080: refused\n")
    assert found.fate is Fate.AGAIN
    assert found.change is not None
    assert found.change.detail == "proxyconnect tcp: dial http://10.0.0.1:8080: refused"


@given(st.text())
def test_words_are_short_and_one_line(text: str) -> None:
    """Whatever the library says fits into a detail."""
    assert len(words(text)) <= 300
    assert "\n" not in words(text)


def test_what_is_asked_for_is_what_is_read() -> None:
    """Chat presence would end the library's loop; the account (0) comes unasked."""
    assert 19 not in CODES
    assert 0 not in CODES
    assert {3, 6, 12, 17, 18} <= set(CODES)
