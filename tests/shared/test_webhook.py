import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shared.ids import EndpointId, SessionId, TenantId
from shared.webhook import (
    Endpoint,
    EndpointStatus,
    Health,
    live_retired,
    live_secrets,
    moved,
    resumed,
    revoked,
    rotated,
    turned,
)

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


def test_a_star_is_everything() -> None:
    """Also event types that are yet to come."""
    everything = msgspec.structs.replace(ENDPOINT, events=("*",))

    assert everything.wants("message.sent", MINE)
    assert everything.wants("weather.changed", None)


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


FAILED = Health(failing_since=1, failures=9, last_error="timeout", opened=2, open_until=99)


@pytest.mark.parametrize("before", EndpointStatus)
@pytest.mark.parametrize("after", EndpointStatus)
def test_any_status_may_follow_any(before: EndpointStatus, after: EndpointStatus) -> None:
    """Enabling forgets what was wrong; only a disabled one has a reason."""
    reason = "It answered 410 Gone." if before is EndpointStatus.DISABLED else None
    row = msgspec.structs.replace(ENDPOINT, status=before, disabled_reason=reason, health=FAILED)

    turn = turned(row, after, "disabled by you")

    if after is before:
        assert turn is row
        return
    assert turn.status is after
    assert turn.disabled_reason == ("disabled by you" if after is EndpointStatus.DISABLED else None)
    assert turn.health == (Health() if after is EndpointStatus.ENABLED else FAILED)


@pytest.mark.parametrize("status", EndpointStatus)
@pytest.mark.parametrize("health", [Health(), FAILED], ids=["well", "failed"])
def test_a_resumed_endpoint_receives(status: EndpointStatus, health: Health) -> None:
    """Whatever it was; one that does already is left as it is."""
    row = msgspec.structs.replace(ENDPOINT, status=status, health=health)

    after = resumed(row)

    assert after.receives
    assert after.health == Health()
    assert resumed(after) is after
    assert (after is row) == (status is EndpointStatus.ENABLED and health == Health())


def test_an_endpoint_receives_while_enabled_and_not_resting() -> None:
    """A paused, a disabled and a resting one do not."""
    assert ENDPOINT.receives
    assert not msgspec.structs.replace(ENDPOINT, health=FAILED).receives
    assert not turned(ENDPOINT, EndpointStatus.PAUSED).receives
    assert not turned(ENDPOINT, EndpointStatus.DISABLED).receives


def test_another_url_is_another_server() -> None:
    """Of which nothing bad is known; the same URL is no change."""
    row = msgspec.structs.replace(ENDPOINT, health=FAILED)

    assert moved(row, row.url) is row
    assert moved(row, "https://example.org").health == Health()
    assert moved(row, "https://example.org").url == "https://example.org"


class Rotations(RuleBasedStateMachine):
    """An endpoint's secrets beside a list of what each of them was promised."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.made = 0
        self.endpoint = msgspec.structs.replace(ENDPOINT, sealed_secret=b"0")
        self.promised: dict[bytes, int | None] = {b"0": None}
        """Until when each secret signs: None for as long as it is the newest."""

    @rule(overlap=st.integers(0, 50))
    def rotate(self, overlap: int) -> None:
        self.made += 1
        self.promised[self.endpoint.sealed_secret] = self.now + overlap
        secret = str(self.made).encode()
        self.promised[secret] = None
        self.endpoint = rotated(self.endpoint, secret, self.now, overlap)

    @rule()
    def revoke(self) -> None:
        for secret in self.promised:
            if secret != self.endpoint.sealed_secret:
                self.promised[secret] = self.now
        self.endpoint = revoked(self.endpoint)
        assert revoked(self.endpoint) is self.endpoint

    @rule(passed=st.integers(0, 60))
    def wait(self, passed: int) -> None:
        self.now += passed

    @invariant()
    def signs_with_what_was_promised_and_nothing_else(self) -> None:
        signing = live_secrets(self.endpoint, self.now)

        live = {
            secret for secret, until in self.promised.items() if until is None or self.now < until
        }
        assert set(signing) == live
        assert list(signing) == sorted(signing, key=int, reverse=True)
        assert signing[0] == self.endpoint.sealed_secret
        assert len(signing) == 1 + len(live_retired(self.endpoint, self.now))

    @invariant()
    def keeps_no_secret_longer_than_the_next_rotation(self) -> None:
        after = rotated(self.endpoint, b"-1", self.now, 1)

        assert len(after.retired) == 1 + len(live_retired(self.endpoint, self.now))


TestRotations = Rotations.TestCase
"""No secret signs after its time or after it was revoked, and none stops before, in any order of
rotations, revocations and waits."""
