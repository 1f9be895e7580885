"""Pairing: what is offered, and how the QR is drawn."""

import base64
import threading
from xml.etree import ElementTree as ET

import png
import pytest

from shared import clock
from shared.commands import StartSession
from shared.session import Reason, SessionState
from tests.control_plane.conftest import NUMBER, Tenant


def path(session_id: str) -> str:
    return f"/v1/sessions/{session_id}/pairing"


def test_an_attempt_shows_its_code_and_qr(tenant: Tenant) -> None:
    """Both are valid side by side, with the time each ends."""
    session_id = tenant.session(SessionState.PAIRING)
    offer = tenant.offer(session_id, code="ABCD-1234", phone_number=NUMBER)

    shown = tenant.get(path(session_id))

    assert shown.status_code == 200
    body = shown.json()
    assert body["status"] == "offered"
    assert body["qr"] == offer.qr
    assert body["code"] == "ABCD-1234"
    assert body["phone_number"] == NUMBER
    assert body["expires_at"] > body["qr_expires_at"]


def test_an_attempt_that_has_no_offer_yet_is_starting(tenant: Tenant) -> None:
    """A session that was ordered to start is not an error."""
    for state in (SessionState.CREATED, SessionState.STARTING):
        session_id = tenant.session(state)

        body = tenant.get(path(session_id)).json()

        assert body["status"] == "starting"
        assert body["qr"] is None


def test_an_old_offer_is_not_shown(tenant: Tenant) -> None:
    """A QR that expired is gone; when the attempt is over, its code is too."""
    session_id = tenant.session(SessionState.PAIRING)
    now = clock.millis()

    tenant.offer(session_id, code="ABCD-1234", qr_expires_at=now - 1)
    stale = tenant.get(path(session_id)).json()
    tenant.offer(session_id, code="ABCD-1234", qr_expires_at=now - 1, attempt_expires_at=now - 1)
    over = tenant.get(path(session_id)).json()

    assert (stale["status"], stale["qr"], stale["code"]) == ("starting", None, "ABCD-1234")
    assert (over["qr"], over["code"]) == (None, None)
    assert tenant.get(f"{path(session_id)}/qr").status_code == 409


@pytest.mark.parametrize(
    "state",
    [SessionState.CONNECTED, SessionState.STOPPED, SessionState.BANNED, SessionState.LOGGED_OUT],
)
def test_where_there_is_no_attempt_the_reason_is_said(tenant: Tenant, state: SessionState) -> None:
    """409 with the state, for the attempt and for its QR."""
    session_id = tenant.session(state)

    for answer in (tenant.get(path(session_id)), tenant.get(f"{path(session_id)}/qr")):
        assert answer.status_code == 409
        assert answer.json()["state"] == state.value


def test_an_attempt_is_begun_for_a_number(tenant: Tenant) -> None:
    """POST orders a start with the number, a restart where an attempt is running."""
    session_id = tenant.session(start=False)

    first = tenant.post(path(session_id), {"phone_number": NUMBER})
    tenant.observe(session_id, SessionState.PAIRING)
    tenant.offer(session_id, code="ABCD-1234")
    again = tenant.post(path(session_id), {"phone_number": NUMBER})

    assert first.status_code == again.status_code == 202
    assert again.json()["code"] is None
    one, two = tenant.commands(session_id)
    assert isinstance(one, StartSession)
    assert isinstance(two, StartSession)
    assert (one.phone_number, one.restart) == (NUMBER, False)
    assert (two.phone_number, two.restart) == (NUMBER, True)
    assert tenant.get(path(session_id)).json()["qr"] is None


def test_an_attempt_that_was_ordered_is_on_its_way(tenant: Tenant) -> None:
    """What ended the last one is no answer, until a gateway says that it ended again."""
    session_id = tenant.session(SessionState.PAIRING)
    tenant.observe(session_id, SessionState.STOPPED, Reason.PAIRING_EXPIRED)
    expired = tenant.get(path(session_id), Prefer="wait=10")
    tenant.post(path(session_id), {"phone_number": NUMBER})

    ordered = tenant.get(path(session_id))

    assert expired.status_code == 409
    assert expired.json()["reason"] == "pairing_expired"
    assert "Start it again." in expired.json()["detail"]
    assert (ordered.status_code, ordered.json()["status"]) == (200, "starting")


def test_the_code_of_an_attempt_before_is_no_answer(tenant: Tenant) -> None:
    """Begun again with another number, it waits for that number's code."""
    session_id = tenant.session(SessionState.PAIRING)
    other = "+4915112345679"

    def act() -> None:
        tenant.offer(session_id, phone_number=NUMBER, code="AAAA-AAAA")
        tenant.observe(session_id, SessionState.STARTING)
        tenant.observe(session_id, SessionState.PAIRING)
        tenant.offer(session_id, phone_number=other, code_error="no")

    timer = threading.Timer(0.3, act)
    timer.start()
    answer = tenant.post(path(session_id), {"phone_number": other}, Prefer="wait=10")
    timer.join()

    assert answer.status_code == 200
    assert (answer.json()["code"], answer.json()["code_error"]) == (None, "no")


def test_a_device_that_connects_is_not_pairing(tenant: Tenant) -> None:
    """A linked session that is starting will never offer anything: 409 at once."""
    session_id = tenant.session(SessionState.CONNECTED)
    tenant.observe(session_id, SessionState.STARTING)

    answer = tenant.get(path(session_id), Prefer="wait=10")

    assert answer.status_code == 409
    assert "linked" in answer.json()["detail"]


@pytest.mark.parametrize("number", ["0151", "+0151123456", "+49151", "+49 151 1234567", "anna", ""])
def test_a_number_that_is_none_is_refused(tenant: Tenant, number: str) -> None:
    """422 for what is not E.164 or too short, and nothing is ordered."""
    session_id = tenant.session(start=False)
    for where in ("pairing", "start"):
        answer = tenant.post(f"/v1/sessions/{session_id}/{where}", {"phone_number": number})

        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/phone_number"
    assert tenant.commands(session_id) == []


def test_a_linked_number_is_not_paired_again(tenant: Tenant) -> None:
    """409: log it out first."""
    session_id = tenant.session(SessionState.CONNECTED)

    answer = tenant.post(path(session_id))

    assert answer.status_code == 409
    assert "log it out" in answer.json()["detail"]


def test_a_number_that_is_linked_but_stopped_is_not_paired_again(tenant: Tenant) -> None:
    """409, and nothing is ordered: starting it would connect, not pair."""
    session_id = tenant.session(SessionState.CONNECTED)
    tenant.observe(session_id, SessionState.STOPPED, Reason.STOPPED_BY_TENANT)
    tenant.commands(session_id)

    answer = tenant.post(path(session_id))

    assert answer.status_code == 409
    assert answer.json()["detail"] == (
        "The session is stopped. Its number is linked; log it out first, or start it to connect."
    )
    assert tenant.commands(session_id) == []


def test_a_number_that_was_logged_out_is_paired_again(tenant: Tenant) -> None:
    """What was linked once is not linked for ever."""
    session_id = tenant.session(SessionState.CONNECTED)
    tenant.observe(session_id, SessionState.LOGGED_OUT, Reason.REMOVED_ON_PHONE)

    assert tenant.post(path(session_id)).status_code == 202


def test_a_preference_waits_for_the_code(tenant: Tenant) -> None:
    """With a number, a QR alone is not the whole answer."""
    session_id = tenant.session(start=False)

    def act() -> None:
        tenant.observe(session_id, SessionState.STARTING)
        tenant.observe(session_id, SessionState.PAIRING)
        tenant.offer(session_id, phone_number=NUMBER)
        tenant.offer(session_id, phone_number=NUMBER, code="ABCD-1234")

    timer = threading.Timer(0.3, act)
    timer.start()
    answer = tenant.post(path(session_id), {"phone_number": NUMBER}, Prefer="wait=10")
    timer.join()

    assert answer.status_code == 200
    assert answer.json()["code"] == "ABCD-1234"
    assert answer.headers["preference-applied"] == "wait=10"


def test_reading_waits_for_an_offer(tenant: Tenant) -> None:
    """GET with `Prefer: wait` answers when there is something to show."""
    session_id = tenant.session()
    timer = threading.Timer(0.2, lambda: tenant.offer(session_id))
    timer.start()

    answer = tenant.get(path(session_id), Prefer="wait=10")
    timer.join()

    assert answer.json()["status"] == "offered"


def test_the_qr_is_drawn_in_four_forms(tenant: Tenant) -> None:
    """The same modules in each: PNG, SVG, data URL and text."""
    session_id = tenant.session(SessionState.PAIRING)
    tenant.offer(session_id)
    qr = f"{path(session_id)}/qr"

    image = tenant.get(qr)
    svg = tenant.get(qr, Accept="image/svg+xml")
    url = tenant.get(f"{qr}?format=data_url")
    text = tenant.get(qr, Accept="text/plain")

    assert image.headers["content-type"] == "image/png"
    assert tenant.get(qr, Accept="").content == image.content
    width, height = png.Reader(bytes=image.content).read()[:2]
    assert width == height > 100
    assert svg.headers["content-type"] == "image/svg+xml"
    assert ET.fromstring(svg.text).tag.endswith("svg")  # noqa: S314 - our own
    assert base64.b64decode(url.text.removeprefix("data:image/png;base64,")) == image.content
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert "█" in text.text
    assert tenant.get(f"{qr}?format=png", Accept="text/plain").content == image.content


def test_a_form_that_does_not_exist_is_refused(tenant: Tenant) -> None:
    """406 by `Accept`, 400 by parameter."""
    session_id = tenant.session(SessionState.PAIRING)
    tenant.offer(session_id)
    qr = f"{path(session_id)}/qr"

    assert tenant.get(qr, Accept="image/webp").status_code == 406
    refused = tenant.get(f"{qr}?format=gif")
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["parameter"] == "format"
    assert "text, png, svg, data_url" in refused.json()["errors"][0]["detail"]
