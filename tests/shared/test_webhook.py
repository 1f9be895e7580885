import msgspec
import pytest

from shared.ids import EndpointId, SessionId, TenantId
from shared.webhook import Endpoint, EndpointStatus

MINE, OTHER = SessionId("ses_mine"), SessionId("ses_other")
ENDPOINT = Endpoint(
    id=EndpointId("ep_1"),
    tenant_id=TenantId("ten_1"),
    url="https://example.com",
    events=("message.*", "session.connected"),
    sealed_secret=b"",
    status=EndpointStatus.ENABLED,
    created_at=1,
    updated_at=1,
)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("message.sent", True), ("session.connected", True), ("session.stopped", False)],
)
def test_an_endpoint_gets_what_its_filter_names(kind: str, *, wanted: bool) -> None:
    """By family or by name, of any session where none is chosen."""
    assert ENDPOINT.wants(kind, MINE) is wanted
    assert ENDPOINT.wants(kind, None) is wanted


def test_an_endpoint_of_chosen_sessions_gets_no_others() -> None:
    """Nor what belongs to no session."""
    chosen = msgspec.structs.replace(ENDPOINT, sessions=(MINE,))

    assert chosen.wants("message.sent", MINE)
    assert not chosen.wants("message.sent", OTHER)
    assert not chosen.wants("message.sent", None)


def test_a_disabled_endpoint_gets_nothing() -> None:
    """Whatever its filter names."""
    off = msgspec.structs.replace(ENDPOINT, status=EndpointStatus.DISABLED)

    assert not off.wants("message.sent", MINE)
