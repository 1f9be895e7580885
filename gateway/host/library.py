"""neonize's Go library, loaded and declared: the few of its functions that a host calls.

Only the library of the wheel is used, not its Python client. That client costs a host 13 MiB, runs
a thread per call out of a small pool, stops the session when it is collected, starts a program and
may download a library when it is imported. The C side is small and the same for both; it is
declared here as `neonize._binder` of the pinned version declares it, and the version is checked.
"""

import ctypes
import importlib.util
import platform
import sys
from ctypes import c_bool, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path
from typing import Any, Final

VERSION: Final = "0.5.2"

ON_TEXT: Final = ctypes.CFUNCTYPE(None, c_void_p, c_void_p)
"""A QR, or a login status: the client's id, and a C string."""
ON_EVENT: Final = ctypes.CFUNCTYPE(None, c_char_p, c_void_p, c_int, c_int)
"""The client's id, a protobuf message and its size, and its code."""
ON_LOG: Final = ctypes.CFUNCTYPE(None, c_void_p, c_int)
"""A protobuf `LogEntry` and its size, on any of the library's threads."""

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class _Bytes(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("size", c_size_t)]


class Proxy(ctypes.Structure):
    """How to reach WhatsApp; an empty address is a direct connection, whatever the environment."""

    _fields_ = [
        ("address", c_char_p),
        ("no_websocket", c_bool),
        ("only_login", c_bool),
        ("no_media", c_bool),
    ]


_WITH_MESSAGE: Final = [c_char_p, c_char_p, c_int]
"""The client's id, and a protobuf message with its size."""

_CALLS: Final[dict[str, list[Any]]] = {
    "SendMessage": [*_WITH_MESSAGE, c_char_p, c_int],
    "PairPhone": _WITH_MESSAGE,
    "GetPNFromLID": _WITH_MESSAGE,
}
"""Functions that return a protobuf message."""

_CONNECT: Final[list[Any]] = [
    c_char_p,  # the store's name
    c_char_p,  # the client's id
    c_char_p,  # a JID and its size: none, the store has one device
    c_int,
    c_int,  # whether to begin a new device beside others
    c_char_p,  # log level
    ON_TEXT,  # QR
    ON_TEXT,  # login status
    ON_EVENT,
    ON_LOG,
    c_char_p,  # codes of the events asked for, one byte each, and how many
    c_int,
    c_char_p,  # device properties, a protobuf message and its size
    c_int,
    c_char_p,  # pairing parameters, likewise: none, a code is asked for later
    c_int,
    ctypes.POINTER(Proxy),
]


class Library:
    """The loaded library. Each method is one C call and blocks as long as that does."""

    def __init__(self) -> None:
        """Raises OSError where there is no library for this machine, or another version."""
        self._c = ctypes.CDLL(str(_path()))
        self._c.GetVersion.restype = c_char_p
        version = self._c.GetVersion().decode()
        if version != VERSION:
            raise OSError(f"neonize's library is {version}, not {VERSION}")
        self._c.FreeString.argtypes = [c_void_p]
        self._c.FreeString.restype = None
        self._c.FreeBytesStruct.argtypes = [ctypes.POINTER(_Bytes)]
        self._c.FreeBytesStruct.restype = None
        self._c.Neonize.argtypes = _CONNECT
        self._c.Neonize.restype = c_void_p
        self._c.Logout.argtypes = [c_char_p]
        self._c.Logout.restype = c_void_p
        self._c.Disconnect.argtypes = [c_char_p]
        self._c.Disconnect.restype = None
        for name, arguments in _CALLS.items():
            function = getattr(self._c, name)
            function.argtypes = arguments
            function.restype = ctypes.POINTER(_Bytes)

    def connect(self, *arguments: Any) -> str:
        """Dial and stay: see `_CONNECT`. Returns the error that ended it, or nothing."""
        return self._text(self._c.Neonize(*arguments))

    def call(self, name: str, client: bytes, *messages: bytes) -> bytes:
        """One of `_CALLS`, with its protobuf messages; returns the answer's bytes."""
        sized = [part for message in messages for part in (message, len(message))]
        result = getattr(self._c, name)(client, *sized)
        if not result:
            return b""
        try:
            return ctypes.string_at(result.contents.data, result.contents.size)
        finally:
            self._c.FreeBytesStruct(result)

    def log_out(self, client: bytes) -> str:
        """Remove the device from the account. Returns the error, or nothing."""
        return self._text(self._c.Logout(client))

    def disconnect(self, client: bytes) -> None:
        self._c.Disconnect(client)

    def _text(self, pointer: int | None) -> str:
        if not pointer:
            return ""
        try:
            return ctypes.string_at(pointer).decode(errors="replace")
        finally:
            self._c.FreeString(pointer)


def _path() -> Path:
    spec = importlib.util.find_spec("neonize")
    if spec is None or spec.submodule_search_locations is None:
        raise OSError("neonize is not installed")
    machine = platform.machine().lower()
    suffix = {"linux": "so", "darwin": "dylib"}.get(sys.platform, "dll")
    name = f"neonize-{platform.system().lower()}-{_ARCHITECTURES.get(machine, machine)}.{suffix}"
    return Path(spec.submodule_search_locations[0]) / name
