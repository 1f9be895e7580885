"""What the library answers, as far as it can be told without the library."""

from typing import Any

import pytest

from gateway.host import socket as sockets
from gateway.host.refusals import Unknown, judge
from gateway.host.socket import Socket
from gateway.host.wire import NoCode, Undelivered


class Mute:
    """A library that answers with nothing at all."""

    def call(self, _name: str, _client: bytes, *_messages: bytes) -> bytes:
        return b""


@pytest.fixture
async def line(monkeypatch: pytest.MonkeyPatch) -> Socket:
    def ignore(*_: Any) -> None:
        pass

    monkeypatch.setattr(sockets, "Library", Mute)
    return Socket(name="", uuid="ses_1", take=ignore, offer=ignore, status=ignore)


async def test_no_answer_to_a_send_is_no_success(line: Socket) -> None:
    """Without an id nobody knows whether it went out: that is uncertain, not sent."""
    with pytest.raises(Undelivered) as caught:
        await line.send("+4915112345679", "hello", bytes(32))
    assert isinstance(judge(str(caught.value)), Unknown)


async def test_no_answer_is_no_pairing_code(line: Socket) -> None:
    """An empty code would be shown to whoever waits for one."""
    with pytest.raises(NoCode):
        await line.pair("+4915112345679")
