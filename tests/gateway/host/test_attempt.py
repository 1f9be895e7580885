"""One attempt to link a number."""

from collections.abc import Generator
from pathlib import Path

import pytest

from gateway.changes import Change
from gateway.host.attempt import ATTEMPT, CODE_LIFE, FIRST_QR, NEXT_QR, Attempt, words
from gateway.host.journal import Journal
from gateway.host.wire import NoCode
from shared.session import Pairing, SessionState, Trigger
from tests.gateway.host.test_journal import open_journal

NOW = 1_700_000_000_000
ANNA = "+4915112345678"


class Phone:
    """The time, what was shown, and what WhatsApp answers to the next request for a code."""

    def __init__(self, journal: Journal, number: str | None, *answers: str | NoCode) -> None:
        self.now = NOW
        self.shown: list[Pairing] = []
        self.asked: list[str] = []
        self.answers = list(answers)
        self.attempt = Attempt(
            journal,
            pair=self._pair,
            show=self._show,
            journalled=lambda: None,
            now=lambda: self.now,
            phone_number=number,
        )

    async def _pair(self, number: str) -> str:
        self.asked.append(number)
        answer = self.answers.pop(0)
        if isinstance(answer, NoCode):
            raise answer
        return answer

    async def _show(self, pairing: Pairing) -> None:
        self.shown.append(pairing)


@pytest.fixture
def journal(tmp_path: Path) -> Generator[Journal]:
    made = open_journal(tmp_path)
    made.change(Change(trigger=Trigger.START), NOW)
    yield made
    made.close()


async def test_the_first_qr_is_shown_at_once_and_the_code_when_it_comes(journal: Journal) -> None:
    """Both are valid side by side, for as long as the attempt lasts."""
    phone = Phone(journal, ANNA, "ABCD-EFGH")
    await phone.attempt.on_qr("qr 1")
    first, second = phone.shown
    assert (first.code, second.code) == (None, "ABCD-EFGH")
    assert first.qr_expires_at == NOW + FIRST_QR
    assert first.attempt_expires_at == NOW + ATTEMPT
    assert journal.session.state is SessionState.PAIRING
    phone.now += FIRST_QR
    await phone.attempt.on_qr("qr 2")
    third = phone.shown[-1]
    assert (third.qr, third.code) == ("qr 2", "ABCD-EFGH")
    assert third.qr_expires_at == phone.now + NEXT_QR
    assert third.attempt_expires_at == NOW + ATTEMPT
    assert phone.asked == [ANNA]


async def test_without_a_number_no_code_is_asked_for(journal: Journal) -> None:
    """It can be asked for later, and with another number, until the number is linked."""
    phone = Phone(journal, None, "AAAA-AAAA", NoCode("phone number too short"))
    await phone.attempt.on_qr("qr 1")
    assert phone.asked == []
    await phone.attempt.request(ANNA)
    assert phone.shown[-1].code == "AAAA-AAAA"
    await phone.attempt.request("+12345678")
    phone.attempt.end()
    await phone.attempt.request(ANNA)
    assert phone.asked == [ANNA, "+12345678"]
    assert phone.shown[-1].code is None
    assert phone.shown[-1].code_error == "The phone number is too short."
    assert phone.shown[-1].phone_number == "+12345678"


async def test_the_code_is_refreshed_with_the_qr_that_follows_its_end(journal: Journal) -> None:
    """It is replaced once; where WhatsApp gives no other, the first is good until the end."""
    phone = Phone(journal, ANNA, "AAAA-AAAA", "BBBB-BBBB", NoCode("status 429"))
    await phone.attempt.on_qr("qr 1")
    assert phone.shown[-1].code_expires_at == NOW + CODE_LIFE
    phone.now += FIRST_QR
    await phone.attempt.on_qr("qr 2")
    assert phone.asked == [ANNA]
    phone.now += NEXT_QR
    await phone.attempt.on_qr("qr 3")
    assert phone.shown[-1].code == "BBBB-BBBB"
    assert phone.shown[-1].code_expires_at == NOW + ATTEMPT
    phone.now = NOW + ATTEMPT
    await phone.attempt.on_qr("qr 7")
    assert phone.asked == [ANNA] * 3
    assert (phone.shown[-1].code, phone.shown[-1].code_error) == ("BBBB-BBBB", None)


async def test_a_number_given_before_the_first_qr_waits_for_it(journal: Journal) -> None:
    """WhatsApp gives codes only in an attempt."""
    phone = Phone(journal, None, "AAAA-AAAA")
    await phone.attempt.request(ANNA)
    assert phone.asked == []
    await phone.attempt.on_qr("qr 1")
    assert phone.shown[-1].code == "AAAA-AAAA"


async def test_a_timeout_before_its_time_is_known_to_be_early(journal: Journal) -> None:
    """The library says `timeout` for a lost connection, too."""
    phone = Phone(journal, None)
    assert not phone.attempt.begun
    assert not phone.attempt.overdue()
    await phone.attempt.on_qr("qr 1")
    assert phone.attempt.early()
    phone.now += ATTEMPT
    assert not phone.attempt.early()
    assert not phone.attempt.overdue()
    phone.now += ATTEMPT
    assert phone.attempt.overdue()


@pytest.mark.parametrize(
    ("error", "part"),
    [
        ("phone number too short", "too short"),
        ("international phone number required (must not start with 0)", "country code"),
        ("info query returned status 429: rate-overlimit", "no more codes"),
        ("info query returned status 400: bad-request", "does not take"),
        ("info query returned status 404: item-not-found", "does not know"),
        ("something else", "scan the QR"),
    ],
    ids=str,
)
def test_errors_are_said_in_words(error: str, part: str) -> None:
    """Whoever links the number reads what to do, not the library's text."""
    assert part in words(error)
