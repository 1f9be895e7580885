"""When something was last heard over a connection, by the kernel's account."""

import fcntl
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.host.hearing import heard_ago, port_of


@pytest.fixture
def listener(socket_enabled: None) -> Generator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as made:
        yield made


def test_a_byte_is_heard(listener: socket.socket) -> None:
    """Of the connections to that port alone, and as long as they are connections."""
    port = listener.getsockname()[1]
    assert heard_ago(port) is None
    with closing(socket.create_connection(("127.0.0.1", port))) as ours:
        theirs, _ = listener.accept()
        with closing(theirs):
            time.sleep(0.3)
            quiet = heard_ago(port)
            assert quiet is not None
            assert quiet >= 0.2
            theirs.sendall(b"!")
            assert ours.recv(1) == b"!"
            heard = heard_ago(port)
            assert heard is not None
            assert heard < quiet
        # The other side closed: a connection that is no longer whole is none.
        assert ours.recv(1) == b""
        assert heard_ago(port) is None


_TAKE = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"


def test_who_listens_keeps_the_locks_of_its_files(tmp_path: Path) -> None:
    """A process loses its locks on a file with the first descriptor of it that is closed."""
    path = tmp_path / "journal.db"
    with path.open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        heard_ago(443)
        taking = [sys.executable, "-c", _TAKE, path]
        taken = subprocess.run(taking, check=False, capture_output=True)  # noqa: S603 (our own)
        assert taken.returncode != 0


@pytest.mark.parametrize(
    ("proxy", "port"),
    [
        ("", 443),
        ("http://127.0.0.1:3128", 3128),
        ("http://user:word@proxy.example", 80),
        ("https://proxy.example", 443),
        ("socks5://proxy.example", 1080),
        ("socks5://[::1]:99", 99),
    ],
)
def test_the_port_is_the_proxys_where_there_is_one(proxy: str, port: int) -> None:
    """Everything of a session goes through its proxy."""
    assert port_of(proxy) == port
