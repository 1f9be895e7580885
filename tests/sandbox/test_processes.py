"""What planes are started with."""

import socket

import pytest

from sandbox.processes import free_port


def test_a_free_port_is_kept_for_who_names_it() -> None:
    """Nobody else is given it before a plane is up; a listener that names it gets it."""
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)):
        pass
