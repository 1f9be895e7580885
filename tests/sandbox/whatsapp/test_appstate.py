from contextlib import suppress
from random import Random

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.whatsapp import appstate, wire
from sandbox.whatsapp.appstate import (
    CRITICAL_BLOCK,
    AppStateError,
    BadPatchMacError,
    Collection,
    Mutation,
    Operation,
    UnknownKeyError,
)

rand = Random(13).randbytes
relaxed = settings(deadline=None)
KEY = appstate.create_key(1, rand)
KEYS = {KEY.id: KEY}
EMPTY = Collection(CRITICAL_BLOCK)

macs = st.binary(min_size=32, max_size=32)
mutations = st.builds(
    Mutation,
    index=st.tuples(st.sampled_from(["a", "b", "ключ", '"\\'])),
    value=st.binary(max_size=50),
    version=st.integers(0, 7),
    operation=st.sampled_from(Operation),
)
patches = st.lists(st.lists(mutations, max_size=4), min_size=1, max_size=4)


@relaxed
@given(st.lists(macs, max_size=5), st.data())
def test_the_hash_forgets_what_is_taken_out(added: list[bytes], data: st.DataObject) -> None:
    """Entries come and go in any order; with all of them gone the hash is the empty one."""
    total = bytes(appstate.HASH_SIZE)
    for mac in added:
        total = appstate.add(total, mac)
    for mac in data.draw(st.permutations(added)):
        total = appstate.subtract(total, mac)

    assert total == bytes(appstate.HASH_SIZE)


@relaxed
@given(macs, macs)
def test_the_order_of_entries_does_not_matter(one: bytes, other: bytes) -> None:
    """The same entries give the same hash."""
    start = bytes(appstate.HASH_SIZE)

    assert appstate.add(appstate.add(start, one), other) == appstate.add(
        appstate.add(start, other), one
    )


@relaxed
@given(patches)
def test_a_companion_reads_what_the_phone_wrote(written: list[list[Mutation]]) -> None:
    """Patch after patch, the reader sees the mutations and ends with the same collection."""
    ours = theirs = EMPTY
    for batch in written:
        ours, patch = appstate.seal(ours, KEY, batch, rand)
        theirs, read = appstate.unseal(theirs, KEYS, patch)
        assert read == tuple(batch)

    assert ours == theirs
    assert theirs.version == len(written)


@relaxed
@given(patches)
def test_the_hash_is_that_of_the_values_that_are_left(written: list[list[Mutation]]) -> None:
    """However a collection came about, its hash is the sum of what is in it now."""
    collection = EMPTY
    for batch in written:
        collection, _ = appstate.seal(collection, KEY, batch, rand)

    total = bytes(appstate.HASH_SIZE)
    for mac in collection.values.values():
        total = appstate.add(total, mac)
    assert collection.hash == total


def test_the_name_is_read_back() -> None:
    """The phone's name reaches whoever reads the collection."""
    _, patch = appstate.seal(EMPTY, KEY, [appstate.push_name("Ana Ölmez", 1_700)], rand)

    _, (mutation,) = appstate.unseal(EMPTY, KEYS, patch)

    assert mutation.index == ("setting_pushName",)
    assert appstate.read_push_name(mutation) == "Ana Ölmez"


def test_other_settings_are_not_a_name() -> None:
    """Another index, or a removal, sets no name; a name setting without a name is malformed."""
    name = appstate.push_name("Ana", 1)

    assert appstate.read_push_name(Mutation(("setting_locale",), b"", 1)) is None
    removal = msgspec.structs.replace(name, operation=Operation.REMOVE)
    assert appstate.read_push_name(removal) is None
    with pytest.raises(AppStateError):
        appstate.read_push_name(msgspec.structs.replace(name, value=b""))


def test_the_patch_has_whatsapps_form() -> None:
    """Version first, then the records, both MACs and the key's id, under protobuf's numbers."""
    _, patch = appstate.seal(EMPTY, KEY, [appstate.push_name("Ana", 1)], rand)
    fields = wire.Fields.decode(patch)

    assert patch.startswith(b"\x0a\x02\x08\x01")
    record = fields.message(2).message(2)
    assert fields.message(2).number(1) == 0
    assert len(record.message(1).data(1)) == 32
    assert len(record.message(2).data(1)) % 16 == 0
    assert record.message(3).data(1) == fields.message(6).data(1) == KEY.id
    assert len(fields.data(4)) == len(fields.data(5)) == 32


def test_a_key_id_is_the_device_and_a_counter() -> None:
    """Two bytes of the device, four of the counter."""
    assert appstate.create_key(258, rand).id == b"\0\0\0\0\x01\x02"


@relaxed
@given(st.integers(0, 500), st.integers(1, 255))
@example(7, 2)  # the operation's tag becomes another's: left out, it means what it said
def test_a_changed_patch_is_refused(at: int, flip: int) -> None:
    """Whatever byte of a patch is changed, reading it is an AppStateError, or it says the same."""
    said = appstate.push_name("Ana", 1)
    _, patch = appstate.seal(EMPTY, KEY, [said], rand)
    changed = bytearray(patch)
    changed[at % len(patch)] ^= flip

    with suppress(AppStateError):
        assert appstate.unseal(EMPTY, KEYS, bytes(changed))[1] == (said,)


def test_a_patch_is_for_one_place_in_one_collection() -> None:
    """A patch left out, repeated, put elsewhere, or made by a key we lack is refused."""
    after_first, first = appstate.seal(EMPTY, KEY, [appstate.push_name("Ana", 1)], rand)
    _, second = appstate.seal(after_first, KEY, [Mutation(("other",), b"", 1)], rand)

    with pytest.raises(AppStateError, match="does not follow"):
        appstate.unseal(EMPTY, KEYS, second)
    with pytest.raises(AppStateError, match="does not follow"):
        appstate.unseal(after_first, KEYS, first)
    with pytest.raises(BadPatchMacError, match="collection"):
        appstate.unseal(Collection("regular"), KEYS, first)
    with pytest.raises(BadPatchMacError, match="collection"):
        appstate.unseal(Collection(CRITICAL_BLOCK, 1), KEYS, second)
    with pytest.raises(UnknownKeyError):
        appstate.unseal(EMPTY, {}, first)


def test_an_unknown_operation_is_refused() -> None:
    """A mutation that neither sets nor removes is malformed."""
    _, patch = appstate.seal(EMPTY, KEY, [appstate.push_name("Ana", 1)], rand)
    record = wire.Fields.decode(patch).message(2).data(2)
    odd = wire.encode((2, wire.encode((1, 2), (2, record))))

    with pytest.raises(AppStateError, match="no operation"):
        appstate.unseal(EMPTY, KEYS, patch + odd)


def test_a_patch_without_its_mutations_is_refused() -> None:
    """Mutations kept in a media file are said to be unsupported, not taken for none."""
    _, patch = appstate.seal(EMPTY, KEY, [], rand)

    with pytest.raises(AppStateError, match="media file"):
        appstate.unseal(EMPTY, KEYS, patch + wire.encode((3, b"")))


@relaxed
@given(st.binary(max_size=200))
def test_rubbish_is_refused_in_one_way(data: bytes) -> None:
    """Random bytes are an AppStateError."""
    with pytest.raises(AppStateError):
        appstate.unseal(EMPTY, KEYS, data)
