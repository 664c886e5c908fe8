from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects import unixfs
from ipvcs.objects.unixfs import DataType, Mtime, UnixfsData, UnixfsError

U64 = (1 << 64) - 1


def messages() -> st.SearchStrategy[UnixfsData]:
    sizes = st.integers(0, U64)
    optional_size = st.one_of(st.none(), sizes)
    mtimes = st.builds(Mtime, st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 999_999_999))
    runs = st.lists(st.tuples(sizes, st.integers(1, 4)), max_size=4)
    return st.builds(
        UnixfsData,
        type=st.sampled_from([kind for kind in DataType if kind is not DataType.HAMT_SHARD]),
        data=st.one_of(st.none(), st.binary(max_size=40)),
        filesize=optional_size,
        blocksizes=runs.map(lambda pairs: tuple(size for size, count in pairs for _ in range(count))),
        hash_type=optional_size,
        fanout=optional_size,
        mode=st.one_of(st.none(), st.integers(1, unixfs.MODE_MASK)),
        mtime=st.one_of(st.none(), mtimes),
    )


@given(messages())
def test_a_message_comes_back_and_its_bytes_too(message: UnixfsData) -> None:
    encoded = unixfs.encode(message)
    assert unixfs.decode(encoded) == message
    assert unixfs.encode(unixfs.decode(encoded)) == encoded


@pytest.mark.parametrize(
    ("message", "encoded"),
    [
        (UnixfsData(DataType.DIRECTORY), "0801"),
        (UnixfsData(DataType.FILE, filesize=0), "08021800"),
        (UnixfsData(DataType.FILE, b"hi", 2), "0802" "12026869" "1802"),
        (UnixfsData(DataType.FILE, None, 300, (200, 100)), "0802" "18ac02" "20c801" "2064"),
        (UnixfsData(DataType.SYMLINK, b"a/b"), "0804" "1203612f62"),
        (UnixfsData(DataType.HAMT_SHARD, b"\x01", None, (), 0x22, 256), "0805" "120101" "2822" "308002"),
        (UnixfsData(DataType.FILE, mode=0o755, mtime=Mtime(1)), "0802" "38ed03" "42020801"),
        (UnixfsData(DataType.FILE, mtime=Mtime(-1, 5)), "0802" "4210" "08ffffffffffffffffff01" "1505000000"),
    ],
)  # fmt: skip
def test_the_wire_form_is_the_one_that_kubo_writes(message: UnixfsData, encoded: str) -> None:
    assert unixfs.encode(message).hex() == encoded
    assert unixfs.decode(bytes.fromhex(encoded)) == message


def test_a_mode_is_cut_to_12_bits_and_zero_is_absent() -> None:
    assert unixfs.encode(UnixfsData(DataType.FILE, mode=0o100644)) == unixfs.encode(
        UnixfsData(DataType.FILE, mode=0o644)
    )
    assert unixfs.encode(UnixfsData(DataType.FILE, mode=0)) == b"\x08\x02"


def test_packed_and_mixed_blocksizes_are_read() -> None:
    plain = UnixfsData(DataType.FILE, blocksizes=(1, 300, 2, 2, 7))
    assert unixfs.decode(bytes.fromhex("080222010120ac0220022002220107")) == plain


@given(messages(), st.integers(9, 1000), st.binary(max_size=9))
def test_unknown_fields_are_skipped(message: UnixfsData, number: int, value: bytes) -> None:
    def field(wire_type: int) -> bytes:
        key = number << 3 | wire_type
        return bytes((key & 0x7F | 0x80, key >> 7)) if key >= 0x80 else bytes((key,))

    unknown = field(2) + bytes((len(value),)) + value + field(0) + b"\x05" + field(1) + bytes(8) + field(5) + bytes(4)
    assert unixfs.decode(unknown + unixfs.encode(message) + unknown) == message


def test_the_last_of_a_repeated_field_counts() -> None:
    assert unixfs.decode(bytes.fromhex("0801080218011802")) == UnixfsData(DataType.FILE, filesize=2)


@pytest.mark.parametrize(
    ("encoded", "problem"),
    [
        ("", "without a type"),
        ("1800", "without a type"),
        ("0806", "unknown UnixFS type 6"),
        ("08ffffffffffffffffff01", "unknown UnixFS type"),
        ("0a0102", "field 1 has wire type 2"),
        ("08021001", "field 2 has wire type 0"),
        ("08021d00000000", "field 3 has wire type 5"),
        ("08021a00", "field 3 has wire type 2"),
        ("08022500000000", "field 4 has wire type 5"),
        ("08024001", "field 8 has wire type 0"),
        ("0802" "220180", "cut short"),
        ("08021205616263", "cut short"),
        ("0802" "20", "cut short"),
        ("0802" "4200", "mtime without seconds"),
        ("0802" "4205" "1500000000", "mtime without seconds"),
        ("0802" "4207" "0801" "1500ca9a3b", "not below a second"),
        ("0802" "4204" "0801" "1001", "field 2 of the mtime"),
        ("0802" "4202" "0a00", "field 1 of the mtime"),
        ("0805" "3007", "fanout 7"),
        ("0805" "3009", "fanout 9"),
        ("0805" "308010", "fanout 2048"),
        ("0805" "30ffffffffffffffffff01", "fanout"),
    ],
)  # fmt: skip
def test_what_is_not_unixfs_is_refused(encoded: str, problem: str) -> None:
    with pytest.raises(UnixfsError, match=problem):
        unixfs.decode(bytes.fromhex(encoded))


def test_a_fanout_that_no_shard_has_is_no_matter_outside_of_shards() -> None:
    message = UnixfsData(DataType.DIRECTORY, hash_type=0, fanout=0)
    assert unixfs.decode(unixfs.encode(message)) == message
    with pytest.raises(UnixfsError):
        unixfs.decode(unixfs.encode(replace(message, type=DataType.HAMT_SHARD)))
