"""The factory: what it takes from the environment, and what it refuses to start without."""

import json
from ipaddress import ip_address

import pytest

from control_plane import app
from control_plane.app import addresses_of, create_app
from shared.env import Settings
from shared.errors import Misconfigured


def test_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """`uvicorn --factory` calls it without arguments; no client is made before one is needed."""
    levels: list[str] = []
    monkeypatch.setattr(app.logs, "configure", levels.append)
    monkeypatch.setenv("ZAPGATE_SECRET", json.dumps({"master": "m" * 32}))

    assert create_app().routes
    assert levels == ["INFO"]


def test_nothing_is_served_without_a_secret() -> None:
    """A misconfigured process stops and says which setting is missing."""
    with pytest.raises(Misconfigured, match="ZAPGATE_SECRET"):
        create_app(Settings())


def test_host_names_are_resolved_or_not() -> None:
    """What does not resolve has no address: the gateway will see when it dials."""
    assert ip_address("127.0.0.1") in addresses_of("localhost")
    assert addresses_of("no such host") == ()
