import msgspec
import pytest

from shared import apikey
from shared.errors import Misconfigured
from shared.keyring import Keyring

OLD, NEW = "o" * 40, "n" * 40


def test_every_purpose_has_its_own_key() -> None:
    """No derived key serves two purposes, or two masters."""
    ring = Keyring.parse(msgspec.json.encode({"master": NEW, "previous": [OLD]}).decode())
    every = [*ring.commands, *ring.cursors, *ring.peppers, *ring.seals]

    assert len(set(every)) == 8
    assert all(apikey.well_formed(key) for key in ring.operator_keys)


def test_the_newest_master_comes_first() -> None:
    """After a rotation the new master signs, and the old one still verifies."""
    before = Keyring.parse(f'{{"master": "{OLD}"}}')
    after = Keyring.parse(f'{{"master": "{NEW}", "previous": ["{OLD}"]}}')

    assert after.commands[1:] == before.commands
    assert after.operator_keys[1:] == before.operator_keys


@pytest.mark.parametrize("text", ["", "{}", '{"master": "hunter2"}', '{"master": 1}', "[]"])
def test_a_bad_secret_is_refused_without_being_repeated(text: str) -> None:
    """The error says what form is wanted, and never what was read."""
    with pytest.raises(Misconfigured) as caught:
        Keyring.parse(text)

    assert "hunter2" not in str(caught.value)
