import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    ProtobufError,
    TruncatedProtobufError,
    decode_varint,
    encode_varint,
    iter_fields,
)


@given(st.one_of(st.integers(0, 1 << 22), st.integers(0, (1 << 64) - 1)))
def test_a_varint_comes_back_from_its_minimal_form(value: int) -> None:
    encoded = encode_varint(value)
    assert decode_varint(encoded, 0) == (value, len(encoded))
    assert len(encoded) == max(1, -(-value.bit_length() // 7))
    assert decode_varint(b"xx" + encoded + b"\xff", 2) == (value, 2 + len(encoded))


def test_a_negative_number_is_ten_bytes_of_its_64_bit_complement() -> None:
    assert encode_varint(-1) == b"\xff" * 9 + b"\x01"
    assert decode_varint(encode_varint(-1), 0) == ((1 << 64) - 1, 10)


@given(st.integers(0, (1 << 64) - 1))
def test_a_varint_cut_short_is_truncated(value: int) -> None:
    encoded = encode_varint(value)
    for length in range(len(encoded)):
        with pytest.raises(TruncatedProtobufError):
            decode_varint(encoded[:length], 0)


def test_a_varint_over_64_bits_or_ten_bytes_is_refused() -> None:
    with pytest.raises(ProtobufError, match="64 bits"):
        decode_varint(b"\xff" * 9 + b"\x02", 0)
    with pytest.raises(ProtobufError, match="ten bytes"):
        decode_varint(b"\x80" * 10 + b"\x00", 0)


def test_each_wire_type_is_read() -> None:
    message = b"\x08\x96\x01" + b"\x12\x03abc" + b"\x1d\x01\x02\x03\x04" + b"\x21\x01\x00\x00\x00\x00\x00\x00\x80"
    assert list(iter_fields(message)) == [
        (1, VARINT, 150),
        (2, BYTES, b"abc"),
        (3, FIXED32, 0x04030201),
        (4, FIXED64, (1 << 63) + 1),
    ]


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (b"\x00\x01", "field number 0 is out of range"),
        (b"\xfa\xff\xff\xff\x7f\x00", "out of range"),
        (b"\x0b", "unsupported wire type 3"),
        (b"\x0c", "unsupported wire type 4"),
        (b"\x0f", "unsupported wire type 7"),
    ],
)
def test_a_malformed_field_is_refused(message: bytes, problem: str) -> None:
    with pytest.raises(ProtobufError, match=problem):
        list(iter_fields(message))


@pytest.mark.parametrize("message", [b"\x12\x03ab", b"\x1d\x01\x02\x03", b"\x21" + bytes(7), b"\x12", b"\x08"])
def test_a_field_cut_short_is_truncated(message: bytes) -> None:
    with pytest.raises(TruncatedProtobufError):
        list(iter_fields(message))


def test_a_claimed_length_allocates_nothing() -> None:
    with pytest.raises(TruncatedProtobufError):
        list(iter_fields(b"\x12" + encode_varint((1 << 64) - 1) + b"abc"))
