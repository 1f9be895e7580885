"""Leads an unmodified client to the sandbox: which certificates, which proxy, which Noise root.

A client checks the server's chain against WhatsApp's root key before it says who it is. The
address, the authority and the proxy can be set from outside; the root key cannot, so `install`
replaces it in the memory of the client's process, in the writable data of neonize's library, and
nowhere else. With that done a connection that strays to WhatsApp itself fails before anything
leaves the machine. Production images do not contain this package.
"""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

ROOT_VARIABLE = "ZAPGATE_SANDBOX_ROOT"
"""The sandbox's public Noise root, 32 bytes in hex."""

WHATSAPP_ROOT = bytes.fromhex("142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b")
"""WhatsApp's public Noise root, as whatsmeow pins it (handshake.go, WACertPubKey)."""

KEY_SIZE = 32


class TrustError(RuntimeError):
    """The process cannot be led to the sandbox; it must not connect."""


def client_environment(ca_file: Path, root: bytes) -> dict[str, str]:
    """What a client process must be exec'ed with.

    Go reads the environment the process started with, so setting these later has no effect.
    """
    return {"SSL_CERT_FILE": str(ca_file), ROOT_VARIABLE: root.hex()}


def install() -> None:
    """Replace the pinned root; call it after neonize is imported and before it connects.

    Calling it again with the same root changes nothing.

    Raises:
        TrustError: the variable is missing or no key, neonize is not loaded, or its root was not
            found exactly once.
    """
    replace_root(_root(os.environ.get(ROOT_VARIABLE, "")))  # noqa: TID251 - read in a foreign process, which has no settings of ours


def replace_root(root: bytes) -> None:
    """Put `root` in the place of WhatsApp's key, in this process only."""
    places = [place for start, end in _writable() for place in _find(start, end, WHATSAPP_ROOT)]
    if len(places) == 1:
        ctypes.memmove(places[0], root, KEY_SIZE)
        return
    replaced = [place for start, end in _writable() for place in _find(start, end, root)]
    if places or not replaced:
        raise TrustError(f"WhatsApp's root key stands in {len(places)} places instead of one")


def _root(text: str) -> bytes:
    try:
        root = bytes.fromhex(text)
    except ValueError as error:
        raise TrustError(f"{ROOT_VARIABLE} is not hexadecimal") from error
    if len(root) != KEY_SIZE:
        raise TrustError(f"{ROOT_VARIABLE} has {len(root)} bytes instead of {KEY_SIZE}")
    return root


def _writable() -> Iterator[tuple[int, int]]:
    """The addresses of the library's writable memory (Linux: see proc_pid_maps(5))."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        raise TrustError("only Linux tells where a library lies in memory")
    found = False
    for line in maps.read_text().splitlines():
        span, permissions, *_, name = line.split(maxsplit=5)
        if "neonize" in Path(name).name and name.endswith(".so"):
            found = True
            if permissions.startswith("rw"):
                start, _, end = span.partition("-")
                yield int(start, 16), int(end, 16)
    if not found:
        raise TrustError("neonize's library is not loaded yet: import neonize first")


def _find(start: int, end: int, key: bytes) -> list[int]:
    memory = ctypes.string_at(start, end - start)
    places: list[int] = []
    at = memory.find(key)
    while at >= 0:
        places.append(start + at)
        at = memory.find(key, at + 1)
    return places
