"""When WhatsApp was last heard, by the kernel's account of the library's own connection.

The library tells of failed pings only, and nothing at all once it has lost track of a connection.
What the kernel received is proof without a question: while a connection is well, an answer to a
ping comes every 20 to 30 seconds, so nothing needs to be asked of WhatsApp or of the library.
"""

import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_LAST_RECEIVED: Final = struct.Struct("=52xI")
"""tcp(7), `struct tcp_info`: `tcpi_last_data_recv`, in milliseconds."""
_ESTABLISHED: Final = 1
"""`TCP_ESTABLISHED`, the first byte of that structure."""
_DESCRIPTORS: Final = Path("/proc/self/fd")
_WHATSAPP: Final = 443
_PROXIES: Final = {"http": 80, "https": 443, "socks5": 1080}


def port_of(proxy: str) -> int:
    """The port a session's connections lead to: WhatsApp's, or its proxy's."""
    if not proxy:
        return _WHATSAPP
    parts = urlsplit(proxy)
    return parts.port or _PROXIES.get(parts.scheme, _WHATSAPP)


def heard_ago(port: int) -> float | None:
    """Seconds since a byte came over a connection of this process to that port; None without one.

    The library's connections for media count, too: they are rare, and closed soon after use.
    """
    found = [_age(int(each.name), port) for each in _DESCRIPTORS.iterdir()]
    return min((age for age in found if age is not None), default=None)


def _age(descriptor: int, port: int) -> float | None:
    """Of one descriptor; None for any but an established connection to that port.

    The descriptor is neither duplicated nor closed. Most of those here are files of two SQLites,
    and whoever closes any descriptor of a file, be it a duplicate, takes all locks that the process
    has on it (fcntl(2), "advisory record locking"). The library may close it at any moment and open
    another under its number: at worst one look is at another connection.
    """
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        theirs = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        if theirs.family not in {socket.AF_INET, socket.AF_INET6}:
            return None
        if theirs.type != socket.SOCK_STREAM or theirs.getpeername()[1] != port:
            return None
        known = theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_RECEIVED.size)
    except OSError:
        return None
    finally:
        theirs.detach()
    milliseconds: int = _LAST_RECEIVED.unpack(known)[0]
    return milliseconds / 1000 if known[0] == _ESTABLISHED else None
