import msgspec
import pytest
from hypothesis import given

from shared import commands, signing
from shared.errors import Expired, Forged, Malformed
from tests.strategies import COMMAND_KINDS, COMMANDS

KEYS = (b"k" * 32,)


@given(COMMANDS)
def test_a_command_survives_the_queue(command: commands.Command) -> None:
    """Signed, queued and decoded in time, a command is what was ordered."""
    text = commands.encode(KEYS, command)

    assert commands.decode(KEYS, text, command.expires_at - 1) == command


@given(COMMANDS)
def test_an_order_whose_time_is_over_is_refused(command: commands.Command) -> None:
    """All but messages, which must still be told that they failed."""
    text = commands.encode(KEYS, command)

    if isinstance(command, commands.SendMessage):
        assert commands.decode(KEYS, text, command.expires_at) == command
    else:
        with pytest.raises(Expired):
            commands.decode(KEYS, text, command.expires_at)


@given(COMMANDS)
def test_a_command_fits_its_queue_and_its_tag_says_its_version(command: commands.Command) -> None:
    """Tags are `noun.verb.vN`."""
    tag = msgspec.json.decode(msgspec.json.encode(command))["command"]

    assert tag.count(".") == 2
    assert tag.endswith(".v1")


def test_tags_are_unique() -> None:
    """No two commands share a tag."""
    tags = {kind.__struct_config__.tag for kind in COMMAND_KINDS}

    assert len(tags) == len(COMMAND_KINDS)


def test_what_we_signed_but_cannot_read_is_malformed() -> None:
    """A command of a later release is refused as unknown, not as forged."""
    text = signing.sign_command(KEYS, b'{"command": "session.sing.v9"}')

    with pytest.raises(Malformed) as caught:
        commands.decode(KEYS, text, 0)
    assert not isinstance(caught.value, Forged)


def test_a_command_signed_for_another_purpose_is_forged() -> None:
    """A cursor's signature does not make a command."""
    text = signing.sign_cursor(KEYS, "x", {"command": "session.stop.v1"})

    with pytest.raises(Forged):
        commands.decode(KEYS, text, 0)
