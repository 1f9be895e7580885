"""WhatsApp's binary XML: every stanza either side sends is one node.

A node is a list of its tag, its attributes and perhaps its content. Words both sides know are
one or two bytes (the token tables), digits are packed two in a byte, addresses have forms of their
own. An address and a text that looks like one are different things on the wire, and clients insist
on the difference, so both are kept apart here: `Jid` and `str`. So are texts and bytes.
"""

import zlib
from collections.abc import Mapping
from typing import assert_never

import msgspec

from sandbox.whatsapp.jid import LID_SERVER, PHONE_SERVER, Jid
from sandbox.whatsapp.tokens import TABLES, TOKENS, Tag

MAX_FRAME = 1 << 24  # a frame's length is three bytes
MAX_INFLATED = 1 << 24  # no honest stanza unpacks to more than a frame may hold
MAX_DEPTH = 64  # real stanzas nest about eight deep
MAX_PACKED = 127  # a packed text's length is seven bits

COMPRESSED = 2  # bit of the byte before every node


NIBBLES = "0123456789-."
HEXES = "0123456789ABCDEF"
NIBBLE_TO_HEX = str.maketrans("-.", "ab")
HEX_TO_NIBBLE = str.maketrans("abcdef", "-.\0\0\0\0")
BINARY_WIDTHS: dict[int, int] = {Tag.BINARY_8: 1, Tag.BINARY_20: 3, Tag.BINARY_32: 4}
DEVICE_SERVERS = {0: PHONE_SERVER, 1: LID_SERVER, 128: "hosted", 129: "hosted.lid"}
DEVICE_DOMAINS = {server: domain for domain, server in DEVICE_SERVERS.items()}


class MalformedNodeError(ValueError):
    """Bytes that are no node, or a node that has no bytes."""


Attribute = str | Jid


class Node(msgspec.Struct, frozen=True):
    """One stanza or part of one. Content is other nodes, bytes, a text, or nothing.

    A text that is neither a token nor packed is written like bytes, and so is read as bytes.
    """

    tag: str
    attrs: Mapping[str, Attribute] = {}
    content: "tuple[Node, ...] | bytes | str | None" = None

    @property
    def children(self) -> "tuple[Node, ...]":
        return self.content if isinstance(self.content, tuple) else ()

    @property
    def data(self) -> bytes:
        """The content as bytes; clients write some of it as bytes and some as text."""
        match self.content:
            case bytes():
                return self.content
            case str():
                return self.content.encode()
            case _:
                return b""

    def child(self, tag: str) -> "Node | None":
        return next((child for child in self.children if child.tag == tag), None)

    def all(self, tag: str) -> "list[Node]":
        return [child for child in self.children if child.tag == tag]

    def text(self, name: str) -> str:
        """An attribute as text, empty if it is absent."""
        return str(self.attrs.get(name, ""))

    def jid(self, name: str) -> Jid | None:
        """An attribute that is an address, `None` if it is absent or a mere text."""
        value = self.attrs.get(name)
        return value if isinstance(value, Jid) else None

    def with_attrs(self, **attrs: Attribute) -> "Node":
        return Node(self.tag, {**self.attrs, **attrs}, self.content)


def node(tag: str, attrs: Mapping[str, Attribute] | None = None, *children: Node) -> Node:
    """A node of nodes. Without children it has no content at all, which clients tell apart."""
    return Node(tag, attrs or {}, children or None)


def leaf(tag: str, content: bytes, attrs: Mapping[str, Attribute] | None = None) -> Node:
    """A node of bytes."""
    return Node(tag, attrs or {}, content)


def encode(value: Node) -> bytes:
    """The bytes of a frame before encryption; never compressed, as clients never compress."""
    out = bytearray(b"\0")
    _write_node(out, value)
    if len(out) >= MAX_FRAME:
        raise MalformedNodeError("a node larger than a frame")
    return bytes(out)


def _write_node(out: bytearray, value: Node) -> None:
    if not value.tag:
        raise MalformedNodeError("a node without a tag")
    attrs = [(key, item) for key, item in value.attrs.items() if item != ""]
    _write_list(out, 1 + 2 * len(attrs) + (value.content is not None))
    _write_text(out, value.tag)
    for key, item in attrs:
        _write_text(out, key)
        if isinstance(item, Jid):
            _write_jid(out, item)
        else:
            _write_text(out, item)
    match value.content:
        case None:
            pass
        case bytes():
            _write_bytes(out, value.content)
        case str():
            _write_text(out, value.content)
        case tuple():
            _write_list(out, len(value.content))
            for child in value.content:
                _write_node(out, child)
        case _:
            assert_never(value.content)


def _write_list(out: bytearray, size: int) -> None:
    if size == 0:
        out.append(Tag.LIST_EMPTY)
    elif size < 256:
        out += bytes([Tag.LIST_8, size])
    elif size < 1 << 16:
        out += bytes([Tag.LIST_16, *size.to_bytes(2, "big")])
    else:
        raise MalformedNodeError(f"a list of {size}")


def _write_bytes(out: bytearray, data: bytes) -> None:
    if len(data) < 256:
        out += bytes([Tag.BINARY_8, len(data)])
    elif len(data) < 1 << 20:
        out += bytes([Tag.BINARY_20, *len(data).to_bytes(3, "big")])
    else:
        out += bytes([Tag.BINARY_32, *len(data).to_bytes(4, "big")])
    out += data


def _write_text(out: bytearray, text: str) -> None:
    if text in TOKENS:
        out += TOKENS[text]
    elif 0 < len(text) <= MAX_PACKED and not text.strip(NIBBLES):
        _write_packed(out, Tag.NIBBLE_8, text.translate(NIBBLE_TO_HEX))
    elif 0 < len(text) <= MAX_PACKED and not text.strip(HEXES):
        _write_packed(out, Tag.HEX_8, text)
    else:
        _write_bytes(out, text.encode())


def _write_packed(out: bytearray, tag: Tag, digits: str) -> None:
    odd = len(digits) % 2
    pairs = bytes.fromhex(digits + "f" * odd)
    out += bytes([tag, len(pairs) | 0x80 * odd]) + pairs


def _write_jid(out: bytearray, jid: Jid) -> None:
    if jid.server == "interop":
        out.append(Tag.INTEROP_JID)
        _write_text(out, jid.user)
        out += jid.device.to_bytes(2, "big") + jid.integrator.to_bytes(2, "big")
        _write_text(out, jid.server)
    elif jid.server == "msgr":
        out.append(Tag.FB_JID)
        _write_text(out, jid.user)
        out += jid.device.to_bytes(2, "big")
        _write_text(out, jid.server)
    elif jid.device and jid.server in DEVICE_DOMAINS:
        out += bytes([Tag.AD_JID, DEVICE_DOMAINS[jid.server], jid.device])
        _write_text(out, jid.user)
    else:
        out.append(Tag.JID_PAIR)
        if jid.user:
            _write_text(out, jid.user)
        else:
            out.append(Tag.LIST_EMPTY)
        _write_text(out, jid.server)


def decode(frame: bytes) -> Node:
    """Read a decrypted frame.

    Raises:
        MalformedNodeError: it is not exactly one node, is compressed wrongly or nests too deep.
    """
    if not frame:
        raise MalformedNodeError("an empty frame")
    raw = _inflate(frame[1:]) if frame[0] & COMPRESSED else frame[1:]
    reader = _Reader(raw)
    value = reader.node(0)
    if reader.at != len(raw):
        raise MalformedNodeError(f"{len(raw) - reader.at} bytes after the node")
    return value


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, MAX_INFLATED)
    except zlib.error as error:
        raise MalformedNodeError("not zlib") from error
    if not inflater.eof:
        raise MalformedNodeError("truncated, or larger than a frame when unpacked")
    return raw


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.raw):
            raise MalformedNodeError("ends too early")
        self.at += count
        return self.raw[self.at - count : self.at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def node(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise MalformedNodeError("nests too deep")
        size = self.list_size(self.number(1))
        if size == 0:
            raise MalformedNodeError("an empty list where a node belongs")
        tag = self.text()
        if not tag:
            raise MalformedNodeError("a node without a tag")
        attrs = {self.text(): self.attribute() for _ in range((size - 1) // 2)}
        return Node(tag, attrs, self.content(depth) if size % 2 == 0 else None)

    def list_size(self, tag: int) -> int:
        match tag:
            case Tag.LIST_EMPTY:
                return 0
            case Tag.LIST_8:
                return self.number(1)
            case Tag.LIST_16:
                return self.number(2)
            case _:
                raise MalformedNodeError(f"tag {tag} where a list belongs")

    def content(self, depth: int) -> tuple[Node, ...] | bytes | str | None:
        tag = self.number(1)
        if tag in (Tag.LIST_8, Tag.LIST_16):
            return tuple(self.node(depth + 1) for _ in range(self.list_size(tag)))
        if tag in (Tag.BINARY_8, Tag.BINARY_20, Tag.BINARY_32):
            return self.binary(tag)
        if tag == Tag.LIST_EMPTY:
            return ()
        value = self.value(tag)
        return str(value) if isinstance(value, Jid) else value

    def binary(self, tag: int) -> bytes:
        return self.take(self.number(BINARY_WIDTHS[tag]))

    def attribute(self) -> Attribute:
        return self.value(self.number(1))

    def text(self) -> str:
        value = self.value(self.number(1))
        if isinstance(value, Jid):
            raise MalformedNodeError("an address where a text belongs")
        return value

    def value(self, tag: int) -> Attribute:
        if Tag.LIST_EMPTY < tag < len(TABLES.single):
            return TABLES.single[tag]
        if Tag.DICTIONARY_0 <= tag <= Tag.DICTIONARY_3:
            return TABLES.double[tag - Tag.DICTIONARY_0][self.number(1)]
        match tag:
            case Tag.LIST_EMPTY:
                return ""
            case Tag.BINARY_8 | Tag.BINARY_20 | Tag.BINARY_32:
                return _utf8(self.binary(tag))
            case Tag.HEX_8 | Tag.NIBBLE_8:
                return self.packed(Tag(tag))
            case _:
                return self.address(tag)

    def packed(self, tag: Tag) -> str:
        head = self.number(1)
        digits = self.take(head & 0x7F).hex()
        if head & 0x80:
            if not digits:
                raise MalformedNodeError("an odd packed text of nothing")
            digits = digits[:-1]
        text = digits.upper() if tag == Tag.HEX_8 else digits.translate(HEX_TO_NIBBLE)
        if "\0" in text:
            raise MalformedNodeError("a half byte outside the packed alphabet")
        return text

    def address(self, tag: int) -> Jid:
        match tag:
            case Tag.JID_PAIR:
                jid = Jid(self.text(), self.text())
            case Tag.AD_JID:
                domain, device = self.take(2)
                if domain not in DEVICE_SERVERS:
                    raise MalformedNodeError(f"domain {domain} of an address")
                jid = Jid(self.text(), DEVICE_SERVERS[domain], device)
            case Tag.FB_JID:
                jid = Jid(self.text(), device=self.number(2), server=self.text())
            case Tag.INTEROP_JID:
                user, device, integrator = self.text(), self.number(2), self.number(2)
                jid = Jid(user, self.text(), device, integrator)
            case _:
                raise MalformedNodeError(f"tag {tag} where a value belongs")
        if not jid.server:
            raise MalformedNodeError("an address without a server")
        return jid


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise MalformedNodeError("a text that is not UTF-8") from error
