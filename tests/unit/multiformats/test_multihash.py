import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError
from ipvcs.multiformats import multihash
from ipvcs.multiformats.multihash import MultihashError, UnknownHashError
from tests.strategies import multihashes

VECTORS = Path(__file__).parents[2] / "vectors" / "multihash"
CASES = list(csv.DictReader((VECTORS / "test_cases.csv").read_text().splitlines()))
SUMS = json.loads((VECTORS / "go-multihash-sum.json").read_text())
NOT_COMPUTED = {0x1B, 0x1D, 0xD5}  # keccak-256, keccak-512, md5: named, not computed
SUMS_COMPUTED = [case for case in SUMS if case["error"] is None and case["code"] not in NOT_COMPUTED]
ALL_CODES = sorted(multihash.NAMES.values())


@pytest.mark.parametrize("algorithm", sorted({case["algorithm"] for case in CASES}))
def test_the_multihashes_of_the_spec_are_computed_and_decoded(algorithm: str) -> None:
    cases = [case for case in CASES if case["algorithm"] == algorithm]
    code = multihash.code_of("sha3-512" if algorithm == "sha3" else algorithm)
    for case in cases:
        expected, length = bytes.fromhex(case["multihash"]), int(case["bits"]) // 8
        assert multihash.sum_(case["input"].encode(), code, length) == expected
        assert multihash.decode(expected) == (code, expected[2:])
    assert len(CASES) == 260


@pytest.mark.parametrize("case", SUMS_COMPUTED, ids=lambda case: f"{case['name']}, {case['length']}")
def test_the_sums_of_go_multihash_are_computed(case: dict[str, str | int]) -> None:
    data, expected = str(case["input"]).encode(), bytes.fromhex(str(case["multihash_hex"]))
    code, length = int(case["code"]), int(case["length"])
    assert multihash.sum_(data, code, length) == expected
    digest = multihash.decode(expected)[1]
    if len(digest) >= multihash.MIN_DIGEST or code == multihash.IDENTITY:
        assert multihash.verify(data, expected)
        assert not multihash.verify(data + b"x", expected)
    else:
        with pytest.raises(MultihashError, match="below the safe minimum"):
            multihash.verify(data, expected)


def test_a_blake3_digest_longer_than_go_makes_is_refused_both_ways() -> None:
    [case] = [case for case in SUMS if case["error"]]
    with pytest.raises(MultihashError, match="not 129"):
        multihash.sum_(b"foo", case["code"], case["length"])
    with pytest.raises(MultihashError, match="over the limit"):
        multihash.decode(bytes.fromhex(case["multihash_hex"]))


@pytest.mark.parametrize("case", [case for case in SUMS if case["code"] in NOT_COMPUTED], ids=lambda case: case["name"])
def test_a_function_that_is_not_computed_is_named_in_the_error(case: dict[str, Any]) -> None:
    name = case["name"].lower().replace("_", "-")
    with pytest.raises(UnknownHashError, match=f"'{name}' is not supported"):
        multihash.sum_(b"foo", case["code"])
    assert multihash.decode(bytes.fromhex(case["multihash_hex"]))[0] == case["code"]


def test_a_function_without_a_name_is_refused() -> None:
    with pytest.raises(UnknownHashError, match="'0x300001'"):
        multihash.verify(b"", multihash.wrap(0x300001, bytes(32)))
    with pytest.raises(UnknownHashError, match="'sha4'"):
        multihash.code_of("sha4")


@given(multihashes(), st.binary(max_size=3), st.binary(max_size=3))
def test_skip_finds_the_end_wherever_the_multihash_stands(value: bytes, before: bytes, after: bytes) -> None:
    assert multihash.skip(before + value + after, len(before)) == len(before) + len(value)


@given(multihashes())
def test_decode_and_wrap_are_each_others_inverse(value: bytes) -> None:
    code, digest = multihash.decode(value)
    assert multihash.wrap(code, digest) == value
    assert multihash.digest_of(value) == digest


@given(multihashes(), st.integers(1, 10))
def test_a_multihash_that_is_cut_or_too_long_is_refused(value: bytes, count: int) -> None:
    with pytest.raises(DecodeError):
        multihash.decode(value[: max(0, len(value) - count)])
    with pytest.raises(MultihashError, match=f"{count} bytes follow the multihash"):
        multihash.decode(value + bytes(count))


@given(st.binary(max_size=40))
def test_garbage_raises_only_decode_errors(data: bytes) -> None:
    try:
        code, digest = multihash.decode(data)
    except DecodeError:
        return
    assert multihash.wrap(code, digest) == data


@pytest.mark.parametrize("code", ALL_CODES, ids=multihash.name_of)
def test_every_named_function_hashes_any_buffer_alike(code: int) -> None:
    data = bytes(range(100))
    expected = multihash.wrap(code, multihash.digest(data, code))
    assert all(multihash.sum_(buffer, code) == expected for buffer in (data, bytearray(data), memoryview(data)))
    assert multihash.code_of(multihash.name_of(code)) == code


@pytest.mark.parametrize("code", [code for code in ALL_CODES if code != multihash.IDENTITY], ids=multihash.name_of)
def test_lengths_outside_what_the_function_gives_are_refused(code: int) -> None:
    full = len(multihash.digest(b"", code))
    assert multihash.digest(b"", code, 1) == multihash.digest(b"", code)[:1]
    extendable = multihash.name_of(code) in ("shake-128", "shake-256", "blake3")
    most = multihash.MAX_DIGEST if extendable else full
    assert len(multihash.digest(b"", code, most)) == most
    for length in (0, most + 1):
        with pytest.raises(MultihashError, match=f"not {length}"):
            multihash.digest(b"", code, length)


def test_an_identity_digest_has_the_length_of_its_data() -> None:
    assert multihash.sum_(b"foo", multihash.IDENTITY, 3) == b"\x00\x03foo"
    with pytest.raises(MultihashError, match="can't have length 2"):
        multihash.sum_(b"foo", multihash.IDENTITY, 2)


@pytest.mark.parametrize("size", [0, 1, multihash.MAX_IDENTITY])
def test_identity_verifies_up_to_its_limit(size: int) -> None:
    assert multihash.verify(bytes(size), multihash.sum_(bytes(size), multihash.IDENTITY))


def test_identity_over_its_limit_is_refused() -> None:
    data = bytes(multihash.MAX_IDENTITY + 1)
    with pytest.raises(MultihashError, match="over the limit"):
        multihash.verify(data, multihash.sum_(data, multihash.IDENTITY))


@given(st.binary(max_size=60), st.integers(multihash.MIN_DIGEST, 32))
def test_a_truncated_digest_verifies_as_in_kubo(data: bytes, length: int) -> None:
    value = multihash.sum_(data, multihash.SHA2_256, length)
    assert multihash.verify(data, value)
    assert multihash.verify(memoryview(data), value)
    assert not multihash.verify(data, value[:-1] + bytes([value[-1] ^ 1]))


def test_a_digest_longer_than_the_functions_proves_nothing() -> None:
    with pytest.raises(MultihashError, match="gives 1 to 32 bytes, not 33"):
        multihash.verify(b"", multihash.wrap(multihash.SHA2_256, bytes(33)))


def test_allowed_functions_are_those_of_kubo_but_for_keccak() -> None:
    names = {multihash.name_of(code) for code in multihash.ALLOWED}
    fixed = {name for name in names if not name.startswith("blake2")}
    assert fixed == {
        *("identity", "sha1", "sha2-256", "sha2-512", "sha3-512", "sha3-384", "sha3-256", "sha3-224"),
        *("shake-256", "blake3", "dbl-sha2-256"),
    }
    blake2 = {f"blake2b-{8 * size}" for size in range(20, 65)} | {f"blake2s-{8 * size}" for size in range(20, 33)}
    assert names - fixed == blake2
