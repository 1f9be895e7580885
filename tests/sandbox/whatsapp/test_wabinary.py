"""Binary XML: what is written is read, what is no node is refused, and the wire is WhatsApp's."""

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.whatsapp.jid import Jid, group, lid, phone
from sandbox.whatsapp.tokens import TABLES, TOKENS
from sandbox.whatsapp.wabinary import (
    MAX_DEPTH,
    Attribute,
    MalformedNodeError,
    Node,
    decode,
    encode,
    leaf,
    node,
)

texts = st.one_of(
    st.sampled_from(sorted(TOKENS)),
    st.text("0123456789-.", min_size=1, max_size=140),
    st.text("0123456789ABCDEF", min_size=1, max_size=140),
    st.text(min_size=1, max_size=300).filter(lambda text: text.encode(errors="replace") != b""),
).filter(lambda text: text.isprintable())
users = st.text("0123456789", min_size=1, max_size=20)
jids = st.one_of(
    st.builds(Jid, st.just("") | users, st.sampled_from(["s.whatsapp.net", "g.us", "lid"])),
    st.builds(
        Jid,
        users,
        st.sampled_from(["s.whatsapp.net", "lid", "hosted", "hosted.lid"]),
        st.integers(1, 255),
    ),
    st.builds(Jid, users, st.just("msgr"), st.integers(0, 65_535)),
    st.builds(Jid, users, st.just("interop"), st.integers(0, 65_535), st.integers(0, 65_535)),
)
attributes: st.SearchStrategy[dict[str, Attribute]] = st.dictionaries(
    texts, st.one_of(texts, jids), max_size=5
)
contents = st.one_of(
    st.none(),
    st.binary(max_size=300),
    st.just(()),
    st.sampled_from(sorted(TOKENS)),  # any other text arrives as the bytes it is
)
leaves = st.builds(Node, texts, attributes, contents)
nodes = st.recursive(
    leaves,
    lambda inner: st.builds(
        Node, texts, attributes, st.lists(inner, min_size=1, max_size=4).map(tuple)
    ),
    max_leaves=10,
)


@given(nodes)
def test_what_is_written_is_read(value: Node) -> None:
    """Every node survives the wire, with texts, bytes and addresses told apart."""
    assert decode(encode(value)) == value


@given(nodes)
def test_a_compressed_frame_says_the_same(value: Node) -> None:
    """A frame may be compressed; its first byte says so."""
    plain = encode(value)
    assert decode(b"\2" + zlib.compress(plain[1:])) == value


@given(st.binary(max_size=200))
def test_whatever_arrives_is_a_node_or_refused(frame: bytes) -> None:
    """No bytes make the reader fail in another way than by saying so."""
    with suppress(MalformedNodeError):
        decode(frame)


@given(nodes, st.data())
def test_a_damaged_frame_is_a_node_or_refused(value: Node, data: st.DataObject) -> None:
    """Bytes that nearly are a node are harder than noise, and as harmless."""
    frame = bytearray(encode(value))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(at, len(frame)))
    with suppress(MalformedNodeError):
        decode(bytes(frame[:end]))


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        # list of one; "iq" is single token 25
        (node("iq"), "00f80119"),
        # attributes in order: id as packed digits, type a token, to an address without user
        (
            node("iq", {"id": "12-3", "to": Jid("", "s.whatsapp.net")}),
            "00f8051908ff0212a311fa0003",
        ),
        # bytes as content are marked with their length
        (leaf("enc", b"\1\2"), "00f8021dfc020102"),
        # a device's address: domain, device, user
        (node("iq", {"to": Jid("99", "lid", 7)}), "00f8031911f70107ff0199"),
        # an odd number of digits is filled up
        (node("iq", {"id": "123"}), "00f8031908ff82123f"),
        # capitals of hexadecimal are packed too
        (node("iq", {"id": "3EB0"}), "00f8031908fb023eb0"),
        # a word of the second dictionary's 256
        (node("read-self"), "00f801ec00"),
    ],
    ids=["tag", "attributes", "bytes", "device", "odd", "hex", "dictionary"],
)
def test_the_wire_is_that_of_whatsmeow(value: Node, wire: str) -> None:
    """Bytes worked out by hand from whatsmeow's encoder (binary/encoder.go, token.go)."""
    assert encode(value).hex() == wire
    assert decode(bytes.fromhex(wire)) == value


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (
            node(
                "message",
                {"id": "3EB0C1D2E3F4A5B6C7D8", "to": phone("4915123456789"), "type": "text"},
                node(
                    "participants",
                    {},
                    node(
                        "to",
                        {"jid": lid("123456789012345", 7)},
                        leaf("enc", b"\1\2\xff", {"v": "2", "type": "pkmsg"}),
                    ),
                ),
            ),
            (
                "00f8081308fb0a3eb0c1d2e3f4a5b6c7d811faff874915123456789f030438f801f8026bf801f804110c"
                "f70107ff88123456789012345ff801f8061d51450453fc030102ff"
            ),
        ),
        (
            node(
                "receipt",
                {
                    "id": "a long lower case id",
                    "to": group("120363000000000001"),
                    "participant": phone("4915123456789", 3),
                    "type": "read-self",
                },
            ),
            (
                "00f8090708fc1461206c6f6e67206c6f776572206361736520696411faff091203630000000000011c05"
                "f70003ff874915123456789f04ec00"
            ),
        ),
        (
            leaf("x", bytes([7]) * 300, {"n": "1.5", "h": "ABC", "u": "ü"}),
            "00f808fc0178fc016eff821b5ffc0168fb82abcffc0175fc02c3bcfd00012c" + "07" * 300,
        ),
    ],
    ids=["message", "receipt", "long"],
)
def test_another_implementation_writes_the_same(value: Node, wire: str) -> None:
    """Bytes written by Baileys 7.0.0-rc14."""
    assert encode(value).hex() == wire
    assert decode(bytes.fromhex(wire)) == value


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0",
        b"\0\0",
        b"\0\xf8\0",
        b"\0\xf8\1\0",
        b"\0\xf8\3\x19\x08\xf1",
        b"\0\xf8\1\xfc\1\xff",
        b"\0\xf8\1",
        b"\0\xf8\1\x19\x19",
        b"\0\xf8\1\xfa\0\3",
        b"\0\xf8\2\x19\xfc\5ab",
        b"\0\xf8\3\x19\x08\xff\x01\xcc",
        b"\0\xf8\3\x19\x08\xff\x80",
        b"\0\xf8\3\x19\x08\xf7\x05\1\x19",
        b"\0\xf8\3\x19\x08\xfa\0\0",
        b"\0\xf8\3\x19\x08\xfc\1\xff",
        b"\2not zlib",
        b"\2" + zlib.compress(b"\xf8\1\x19")[:-5],
    ],
)
def test_what_is_no_node_is_refused(frame: bytes) -> None:
    """Truncated, overlong, empty, of unknown form, not UTF-8, badly packed or compressed."""
    with pytest.raises(MalformedNodeError):
        decode(frame)


def test_a_bomb_is_refused() -> None:
    """A small frame that unpacks to a huge one, or nests without end, is not followed."""
    with pytest.raises(MalformedNodeError, match="larger than a frame"):
        decode(b"\2" + zlib.compress(bytes(1 << 25)))
    with pytest.raises(MalformedNodeError, match="nests too deep"):
        decode(b"\0" + b"\xf8\2\x19\xf8\1" * (MAX_DEPTH + 2) + b"\xf8\1\x19")


def test_what_cannot_be_written_is_refused() -> None:
    """A node needs a tag and must fit a frame."""
    with pytest.raises(MalformedNodeError):
        encode(node(""))
    with pytest.raises(MalformedNodeError):
        encode(leaf("enc", bytes(1 << 24)))
    with pytest.raises(MalformedNodeError):
        encode(Node("list", {}, (node("item"),) * (1 << 16)))


def test_long_lists_and_rare_addresses_survive() -> None:
    """More than 255 children, and an address of another service's user."""
    many = Node("list", {}, (node("item"),) * 300)
    foreign = node("message", {"from": Jid("1-23", "interop", 4, 5)})

    assert decode(encode(many)) == many
    assert decode(encode(foreign)) == foreign


def test_an_empty_attribute_is_left_out() -> None:
    """Clients take an attribute that is there for one that says something."""
    assert decode(encode(node("iq", {"type": ""}))) == node("iq")


def test_the_token_tables_are_complete() -> None:
    """One byte reaches 235 words, two reach four dictionaries of 256 (version 3)."""
    assert (len(TABLES.single), [len(words) for words in TABLES.double]) == (236, [256] * 4)


def test_a_node_is_asked_in_the_protocol_s_words() -> None:
    """Children by tag, attributes as text or address, content as bytes however it was written."""
    jid = Jid("1555", "s.whatsapp.net")
    inner = Node("ref", {"from": jid, "id": "7"}, b"abc")
    outer = node("iq", {}, inner, Node("ref", {}, "text"))

    assert outer.child("ref") == inner
    assert outer.child("none") is None
    assert [each.data for each in outer.all("ref")] == [b"abc", b"text"]
    assert (outer.data, inner.children) == (b"", ())
    assert (inner.text("id"), inner.text("none")) == ("7", "")
    assert (inner.jid("from"), inner.jid("id")) == (jid, None)
    assert inner.with_attrs(id="8").text("id") == "8"
