import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import TruncatedError
from ipvcs.multiformats import varint
from tests.strategies import varints

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "varint" / "vectors.json").read_text())


@pytest.mark.parametrize(("value", "wire"), VECTORS["valid"])
def test_valid_vectors_hold_both_ways(value: int, wire: str) -> None:
    assert varint.encode(value).hex() == wire
    assert varint.decode(bytes.fromhex(wire)) == (value, len(wire) // 2)


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: vector["why"])
def test_invalid_vectors_are_refused(vector: dict[str, str]) -> None:
    with pytest.raises(varint.VarintError):
        varint.decode(bytes.fromhex(vector["hex"]))


@given(varints(), st.binary(max_size=3), st.binary(max_size=3))
def test_decode_undoes_encode_wherever_it_stands(value: int, before: bytes, after: bytes) -> None:
    wire = varint.encode(value)
    assert varint.decode(before + wire + after, len(before)) == (value, len(before) + len(wire))


@given(varints())
def test_every_proper_prefix_is_reported_as_truncated(value: int) -> None:
    wire = varint.encode(value)
    for end in range(len(wire)):
        with pytest.raises(TruncatedError):
            varint.decode(wire[:end])


@given(st.binary(max_size=12))
def test_what_decodes_is_the_only_encoding_of_its_value(data: bytes) -> None:
    try:
        value, end = varint.decode(data)
    except varint.VarintError:
        return
    assert varint.encode(value) == data[:end]


@pytest.mark.parametrize("value", [-1, 1 << 63])
def test_a_value_that_has_no_encoding_is_a_bug_of_the_caller(value: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        varint.encode(value)
