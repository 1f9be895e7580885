"""What an attempt tells of its endpoint."""

import pytest

from gateway.egress import (
    _CERTIFICATES,  # pyright: ignore[reportPrivateUsage] - all of it is what is compared
    _CODES,  # pyright: ignore[reportPrivateUsage] - likewise
    DEADLINE,
)
from shared.diagnosis import CLASSES, FAULTS, OK, SLOW, STATUSES, UNKNOWN, diagnose


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (200, None, "ok"),
        (204, None, "ok"),
        (299, None, "ok"),
        (101, "http_101", "protocol_error"),
        (301, "http_301", "redirect"),
        (302, "http_302", "redirect"),
        (308, "http_308", "redirect"),
        (400, "http_400", "bad_request"),
        (401, "http_401", "unauthorized"),
        (403, "http_403", "forbidden"),
        (404, "http_404", "not_found"),
        (405, "http_405", "method_not_allowed"),
        (410, "http_410", "gone"),
        (413, "http_413", "too_large"),
        (415, "http_415", "unsupported_media_type"),
        (418, "http_418", "refused"),
        (429, "http_429", "too_many_requests"),
        (500, "http_500", "server_error"),
        (503, "http_503", "server_error"),
        (700, "http_700", "failed"),
        (None, "dns_error", "dns_error"),
        (None, "connection_refused", "connection_refused"),
        (None, "connection_reset", "connection_reset"),
        (None, "connection_failed", "connection_failed"),
        (None, "timeout", "timeout"),
        (None, "dns_timeout", "dns_timeout"),
        (None, "tls_error", "tls_error"),
        (None, "tls_expired", "tls_expired"),
        (None, "tls_wrong_host", "tls_wrong_host"),
        (None, "tls_untrusted", "tls_untrusted"),
        (None, "blocked_address", "blocked_address"),
        (None, "protocol_error", "protocol_error"),
        (None, "invalid_url", "invalid_url"),
        (None, "interrupted", "interrupted"),
        (None, "secret_unreadable", "secret_unreadable"),
        (None, "something_new", "failed"),
        (None, None, "failed"),
    ],
)
def test_every_outcome_has_a_name(status: int | None, error: str | None, code: str) -> None:
    """Only 2xx is well."""
    told = diagnose(status, error, None)

    assert told.code == code
    assert told.well == (code == "ok")


def test_an_answer_near_the_deadline_is_well_but_slow() -> None:
    """It arrived, and will not when the receiver has more to do. A failure stays what it is."""
    assert diagnose(200, None, SLOW).code == "slow"
    assert diagnose(200, None, SLOW).well
    assert diagnose(200, None, SLOW - 1).code == "ok"
    assert diagnose(500, "http_500", SLOW).code == "server_error"
    assert DEADLINE * 1000 / 2 < SLOW < DEADLINE * 1000


@pytest.mark.parametrize("status", [400, 401, 403])
def test_whoever_refuses_a_signature_is_told_how_it_is_made(status: int) -> None:
    """What is signed, with which secret, and that the body is raw."""
    then = diagnose(status, f"http_{status}", None).then

    for said in ("webhook-id", "webhook-timestamp", "raw body", "newest secret", "whsec_"):
        assert said in then


def test_every_diagnosis_is_two_sentences_for_a_person() -> None:
    """What it means, and what to do."""
    for told in (OK, UNKNOWN, *FAULTS.values(), *STATUSES.values(), *CLASSES.values()):
        for text in (told.means, told.then):
            assert text[0].isupper()
            assert text.endswith(".")


def test_every_fault_of_the_way_out_is_explained() -> None:
    """What the client calls an error, its owner finds here."""
    named = {code for _, code in _CODES} | set(_CERTIFICATES.values())

    assert named <= FAULTS.keys()


def test_an_answer_that_broke_off_is_judged_by_what_broke_it() -> None:
    """A status alone is no success: what was to follow it did not come."""
    assert diagnose(200, "timeout", 15_000.0) == FAULTS["timeout"]
    assert diagnose(200, "protocol_error", 1.0) == FAULTS["protocol_error"]
