import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.whatsapp import wire
from sandbox.whatsapp.wire import Fields, WireError

numbers = st.integers(1, 2**29 - 1)
values = st.integers(0, 2**64 - 1) | st.binary(max_size=200)


@pytest.mark.parametrize(
    ("fields", "encoded"),
    [
        pytest.param(((1, 150),), "089601", id="varint, from the protobuf guide"),
        pytest.param(((2, "testing"),), "120774657374696e67", id="text, from the protobuf guide"),
        pytest.param(((1, 0), (2, b"")), "08001200", id="zero and empty are written"),
        pytest.param(((1, None),), "", id="None is left out"),
    ],
)
def test_fields_are_written_as_the_guide_says(
    fields: tuple[tuple[int, wire.Value], ...], encoded: str
) -> None:
    """The encoding is protobuf's."""
    assert wire.encode(*fields).hex() == encoded


@given(st.dictionaries(numbers, values))
def test_what_is_written_is_read_back(fields: dict[int, int | bytes]) -> None:
    """Every field comes back with its value, whatever the others are."""
    read = Fields.decode(wire.encode(*fields.items()))

    for number, value in fields.items():
        assert read.has(number)
        assert (read.number(number) if isinstance(value, int) else read.data(number)) == value


@given(st.lists(st.binary(max_size=20)))
def test_repeated_fields_keep_their_order(chunks: list[bytes]) -> None:
    """A repeated field gives all its values; read as a single one, the last."""
    read = Fields.decode(wire.encode(*((3, chunk) for chunk in chunks)))

    assert read.every(3) == chunks
    assert not chunks or read.data(3) == chunks[-1]


@given(st.binary(max_size=300))
def test_rubbish_is_read_or_refused_in_one_way(data: bytes) -> None:
    """Random bytes are a message or a WireError, never another error."""
    try:
        Fields.decode(data)
    except WireError:
        return


@given(st.dictionaries(numbers, st.binary(min_size=1, max_size=20), min_size=1), st.data())
def test_a_message_cut_inside_a_field_is_refused(
    fields: dict[int, bytes], data: st.DataObject
) -> None:
    """A message that ends inside its last field is an error."""
    encoded = wire.encode(*fields.items())
    last = len(next(reversed(fields.values())))
    cut = data.draw(st.integers(1, last))

    with pytest.raises(WireError):
        Fields.decode(encoded[:-cut])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("09" + "00" * 8 + "150000000008" + "07", id="fixed-size fields"),
        pytest.param("f2ffffff0f01ff0807", id="the largest field number"),
    ],
)
def test_unknown_fields_are_stepped_over(data: str) -> None:
    """Fields of types we do not read change nothing for those we do."""
    assert Fields.decode(bytes.fromhex(data)).number(1) == 7


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("08", id="varint missing"),
        pytest.param("08" + "ff" * 10, id="varint too long"),
        pytest.param("08" + "ff" * 9 + "02", id="varint over 64 bits"),
        pytest.param("0007", id="field number zero"),
        pytest.param("0b", id="group"),
        pytest.param("0900", id="fixed64 cut"),
        pytest.param("1202ff", id="bytes cut"),
    ],
)
def test_malformed_bytes_are_refused(data: str) -> None:
    """Each way to be malformed is a WireError."""
    with pytest.raises(WireError):
        Fields.decode(bytes.fromhex(data))


def test_a_field_of_the_wrong_kind_is_missing() -> None:
    """A number is not found where bytes are, nor bytes of the wrong size, nor text in bytes."""
    read = Fields.decode(wire.encode((1, b"\xff"), (2, 7), (3, b"\xff")))

    with pytest.raises(WireError):
        read.number(1)
    with pytest.raises(WireError):
        read.data(2)
    with pytest.raises(WireError):
        read.data(1, size=2)
    with pytest.raises(WireError):
        read.text(3)
    with pytest.raises(WireError):
        read.message(3)
    assert read.number(9, 5) == 5


@pytest.mark.parametrize("value", [-1, 2**64])
def test_a_number_that_does_not_fit_is_not_written(value: int) -> None:
    """Only unsigned numbers of 64 bits can be written."""
    with pytest.raises(WireError):
        wire.encode((1, value))
