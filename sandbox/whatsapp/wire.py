"""Just enough protobuf for the small fixed messages: handshake, certificates, devices, Signal.

A message is written from (field number, value) pairs and read back by field number. Only varints
and length-delimited fields are kept, because these messages hold nothing else; other fields are
stepped over, as protobuf asks of a reader that does not know them
(https://protobuf.dev/programming-guides/encoding/).
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Self, assert_never

Value = int | bytes | str | None
"""A varint, bytes, UTF-8 text, or an absent field."""


class _Kind(IntEnum):
    """How a field is written: the low three bits of its tag."""

    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5


_MAX_VARINT_BYTES = 10  # 64 bits, seven a byte
_MAX_VALUE = 2**64
_MAX_FIELD = 2**29 - 1  # the largest field number protobuf allows


class WireError(ValueError):
    """These bytes are not the message that was expected."""


def encode(*fields: tuple[int, Value]) -> bytes:
    """Write fields in the given order; a field whose value is None is left out."""
    out = bytearray()
    for number, value in fields:
        match value:
            case None:
                continue
            case int():
                out += _varint(number << 3 | _Kind.VARINT) + _varint(value)
            case str() | bytes():
                data = value.encode() if isinstance(value, str) else value
                out += _varint(number << 3 | _Kind.BYTES) + _varint(len(data)) + data
            case _:
                assert_never(value)
    return bytes(out)


class Fields:
    """A message that was read. Where a single field is repeated the last one counts."""

    def __init__(self, numbers: dict[int, int], chunks: dict[int, list[bytes]]) -> None:
        self._numbers = numbers
        self._chunks = chunks

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a message.

        Raises:
            WireError: the bytes end early or are no protobuf. Never any other error.
        """
        numbers: dict[int, int] = {}
        chunks: dict[int, list[bytes]] = {}
        for number, value in _read(data):
            if isinstance(value, int):
                numbers[number] = value
            else:
                chunks.setdefault(number, []).append(value)
        return cls(numbers, chunks)

    def number(self, field: int, default: int | None = None) -> int:
        """Return a varint field, `default` where it is absent; WireError if there is neither."""
        value = self._numbers.get(field, default)
        if value is None:
            raise WireError(f"number field {field} is missing")
        return value

    def data(self, field: int, size: int | None = None) -> bytes:
        """Return a bytes field; WireError if it is absent, or not of `size` where one is asked."""
        if field not in self._chunks:
            raise WireError(f"bytes field {field} is missing")
        value = self._chunks[field][-1]
        if size is not None and len(value) != size:
            raise WireError(f"bytes field {field} has {len(value)} bytes instead of {size}")
        return value

    def text(self, field: int) -> str:
        """Return a text field; WireError if it is absent or not UTF-8."""
        try:
            return self.data(field).decode()
        except UnicodeDecodeError as error:
            raise WireError(f"field {field} is not text") from error

    def every(self, field: int) -> list[bytes]:
        """Return all values of a repeated bytes field, oldest first."""
        return list(self._chunks.get(field, ()))

    def message(self, field: int) -> Self:
        """Return an embedded message; WireError if it is absent or malformed."""
        return self.decode(self.data(field))

    def has(self, field: int) -> bool:
        """Tell whether the field was present, as a number or as bytes."""
        return field in self._numbers or field in self._chunks


def _varint(value: int) -> bytes:
    if not 0 <= value < _MAX_VALUE:
        raise WireError(f"{value} does not fit an unsigned 64-bit varint")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number <= _MAX_FIELD:
            raise WireError(f"{number} is no field number")
        match kind:
            case _Kind.VARINT:
                value, at = _read_varint(data, at)
                yield number, value
            case _Kind.BYTES:
                size, at = _read_varint(data, at)
                end = _within(data, at + size)
                yield number, data[at:end]
                at = end
            case _Kind.FIXED64:
                at = _within(data, at + 8)
            case _Kind.FIXED32:
                at = _within(data, at + 4)
            case _:
                raise WireError(f"wire type {kind} of field {number} is not in use")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value >= _MAX_VALUE:
                break
            return value, at + index + 1
    raise WireError("a varint has no end within 64 bits")


def _within(data: bytes, end: int) -> int:
    if end > len(data):
        raise WireError("the message ends inside a field")
    return end
