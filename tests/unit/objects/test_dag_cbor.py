import math
import struct
from collections.abc import Iterator
from typing import Any

import libipld
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ipvcs.errors import IpvcsError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_cbor
from ipvcs.objects.block import Block
from ipvcs.objects.dag_cbor import DagCborError, TruncatedDagCborError
from ipvcs.objects.data_model import MAX_DEPTH, EncodeError, Value
from tests.unit.objects import codec_fixtures
from tests.unit.objects.values import values

CID = Cid.parse("bafyreidj5idub6mapiupjwjsyyxhyhedxycv4vihfsicm2vt46o7morwlm")
NEGATIVE_ZERO = b"\xfb" + struct.pack(">d", -0.0)


@pytest.mark.parametrize(("name", "block"), codec_fixtures.load_of("dag-cbor"))
def test_a_fixture_is_strict_and_what_it_encodes_to(name: str, block: bytes) -> None:
    value = dag_cbor.decode(block)
    assert dag_cbor.encode(value) == block
    assert dag_cbor.decode(block, strict=False) == value


@pytest.mark.parametrize("strict", [True, False])
def test_duplicate_keys_of_the_negative_fixture_are_refused(strict: bool) -> None:
    for case in codec_fixtures.load_negative("dag-cbor/decode/duplicate-keys.json"):
        with pytest.raises(DagCborError, match="at byte 11: duplicate map key 'foo'"):
            dag_cbor.decode(bytes.fromhex(case["hex"]), strict=strict)


def test_kubos_non_canonical_block_becomes_the_canonical_one_of_its_test() -> None:
    block = (codec_fixtures.FOLDER / "kubo-t0053" / "non-canon.cbor").read_bytes()
    with pytest.raises(DagCborError, match="map key 'arr' is out of order"):
        dag_cbor.decode(block)
    canonical = dag_cbor.encode(dag_cbor.decode(block, strict=False))
    assert canonical != block
    assert (
        str(Block.of(canonical, codecs.DAG_CBOR).cid) == "bafyreiawx7ona7oa2ptcoh6vwq4q6bmd7x2ibtkykld327bgb7t73ayrqm"
    )


@given(values())
def test_a_value_comes_back_and_its_bytes_too(value: Value) -> None:
    encoded = dag_cbor.encode(value)
    decoded = dag_cbor.decode(encoded)
    assert decoded == value
    assert dag_cbor.encode(decoded) == encoded
    assert dag_cbor.decode(encoded, strict=False) == value


@given(values())
def test_libipld_reads_the_same_value_and_writes_the_same_bytes(value: Value) -> None:
    encoded = dag_cbor.encode(value)
    assume(NEGATIVE_ZERO not in encoded)  # it refuses to read it and writes it as 0.0; the specification allows it
    assert libipld.decode_dag_cbor(encoded) == as_libipld(value)
    assume(not any(raw[:1] in (b"\x01", b"\x12") for raw in byte_strings(value)))  # it takes those of a CID for a link
    assert libipld.encode_dag_cbor(as_libipld(value)) == encoded


@given(values(), st.floats(0, 1, exclude_max=True))
def test_any_cut_of_a_value_is_truncated(value: Value, part: float) -> None:
    encoded = dag_cbor.encode(value)
    with pytest.raises(TruncatedDagCborError):
        dag_cbor.decode(encoded[: int(part * len(encoded))])


@given(st.integers(0, (1 << 64) - 1))
def test_an_integer_takes_the_fewest_bytes(number: int) -> None:
    size = 1 if number < 24 else 2 if number < 1 << 8 else 3 if number < 1 << 16 else 5 if number < 1 << 32 else 9
    assert len(dag_cbor.encode(number)) == len(dag_cbor.encode(-1 - number)) == size


def test_keys_are_sorted_by_length_then_bytes() -> None:
    mapping: Value = {"bb": 1, "a": 2, "\u00e9": 3, "": 4, "ab": 5}
    assert dag_cbor.encode(mapping) == bytes.fromhex("a56004616102626162056262620162c3a903")


RELAXED = [
    ("1800", 0, "shortest"),
    ("1817", 23, "shortest"),
    ("190018", 24, "shortest"),
    ("1a00000001", 1, "shortest"),
    ("1b0000000000000001", 1, "shortest"),
    ("3800", -1, "shortest"),
    ("580161", b"a", "shortest"),
    ("780161", "a", "shortest"),
    ("980101", [1], "shortest"),
    ("b801616101", {"a": 1}, "shortest"),
    ("a1780161" + "01", {"a": 1}, "shortest"),
    ("d9002a" + "5825" + "00" + CID.raw.hex(), CID, "shortest"),
    ("f93e00", 1.5, "64 bits"),
    ("fa3fc00000", 1.5, "64 bits"),
    ("a2616201616102", {"b": 1, "a": 2}, "out of order"),
    ("a262616101616202", {"aa": 1, "b": 2}, "out of order"),
    ("61ff", "\udcff", "UTF-8"),
]


@pytest.mark.parametrize(("text", "value", "problem"), RELAXED)
def test_what_is_not_canonical_is_read_only_when_lenient(text: str, value: Value, problem: str) -> None:
    with pytest.raises(DagCborError, match=problem):
        dag_cbor.decode(bytes.fromhex(text))
    assert dag_cbor.decode(bytes.fromhex(text), strict=False) == value


INVALID = [
    ("f7", "undefined"),
    ("e0", "simple value 0"),
    ("f818", "simple value 24"),
    ("f8ff", "simple value 255"),
    ("ff", "indefinite"),
    ("5f6161ff", "indefinite"),
    ("7f6161ff", "indefinite"),
    ("9fff", "indefinite"),
    ("bfff", "indefinite"),
    ("1c", "reserved length 28"),
    ("fb7ff8000000000000", "not finite"),
    ("fb7ff0000000000000", "not finite"),
    ("fbfff0000000000000", "not finite"),
    ("f97c00", "64 bits|not finite"),
    ("fa7f800000", "64 bits|not finite"),
    ("c074323031332d30332d32315432303a30343a30305a", "tag 0 is not allowed"),
    ("c249010000000000000000", "tag 2 is not allowed"),
    ("d82b4100", "tag 43 is not allowed"),
    ("d82a" + "6100", "tag 42 is not on bytes"),
    ("d82a" + "40", "zero byte"),
    ("d82a" + "5824" + CID.raw.hex(), "zero byte"),
    ("d82a" + "43000155", "not a CID"),
    ("d82a" + "5826" + "00" + CID.raw.hex() + "00", "not a CID"),
    ("a10101", "map key is not a string"),
    ("a1410101", "map key is not a string"),
    ("a2616101616102", "duplicate"),
    ("0000", "1 bytes follow"),
    ("f6f6", "1 bytes follow"),
]


@pytest.mark.parametrize(("text", "problem"), INVALID)
@pytest.mark.parametrize("strict", [True, False])
def test_what_is_not_dag_cbor_is_refused_strict_or_not(text: str, problem: str, strict: bool) -> None:
    with pytest.raises(DagCborError, match=problem):
        dag_cbor.decode(bytes.fromhex(text), strict=strict)


@pytest.mark.parametrize("head", ["5b", "7b", "9b", "bb"])
def test_a_claimed_length_allocates_nothing(head: str) -> None:
    with pytest.raises(TruncatedDagCborError):
        dag_cbor.decode(bytes.fromhex(head + "ffffffffffffffff") + bytes(100))


def test_nesting_is_bounded_in_both_directions() -> None:
    deepest = b"\x81" * (MAX_DEPTH - 1) + b"\x80"
    assert dag_cbor.encode(dag_cbor.decode(deepest)) == deepest
    with pytest.raises(EncodeError, match="nested deeper than 1024"):
        dag_cbor.encode([dag_cbor.decode(deepest)])
    for head in (b"\x81", b"\xa1\x61a"):
        with pytest.raises(DagCborError, match="nested deeper than 1024"):
            dag_cbor.decode(head * 100_000 + b"\x80")


def test_a_cycle_is_refused() -> None:
    loop: list[Value] = []
    loop.append(loop)
    with pytest.raises(EncodeError, match="nested deeper"):
        dag_cbor.encode(loop)


@pytest.mark.parametrize(
    "value",
    [1 << 64, -(1 << 64) - 1, 10**50, math.nan, math.inf, "\ud800", {"\udcff": 1}, {1: 2}, {1, 2}, (1,), bytearray()],
)
def test_what_the_data_model_lacks_does_not_encode(value: Any) -> None:
    with pytest.raises(EncodeError, match=r"^cannot encode as dag-cbor: "):
        dag_cbor.encode(value)


def test_the_sign_of_zero_survives() -> None:
    assert dag_cbor.encode(-0.0) == NEGATIVE_ZERO
    assert math.copysign(1, float(str(dag_cbor.decode(dag_cbor.encode(-0.0))))) == -1


def test_an_error_names_the_byte_and_is_expected() -> None:
    with pytest.raises(IpvcsError, match=r"^bad dag-cbor at byte 2: undefined value$") as caught:
        dag_cbor.decode(b"\x82\x01\xf7")
    assert isinstance(caught.value, DagCborError)
    assert caught.value.offset == 2


def byte_strings(value: Value) -> Iterator[bytes]:
    """Yield every byte string in `value`."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from byte_strings(item)


def as_libipld(value: Value) -> Any:
    """Return `value` as libipld has it: links are their bytes."""
    if isinstance(value, Cid):
        return value.raw
    if isinstance(value, list):
        return [as_libipld(item) for item in value]
    return {key: as_libipld(item) for key, item in value.items()} if isinstance(value, dict) else value
