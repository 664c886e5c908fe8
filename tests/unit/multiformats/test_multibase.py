import csv
import json
from pathlib import Path

import libipld
import multiformats.multibase
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import UsageError
from ipvcs.multiformats import integer_bases, multibase
from ipvcs.multiformats.multibase import MultibaseError, UnknownBaseError

VECTORS = Path(__file__).parents[2] / "vectors"
KUBO_BASES = json.loads((VECTORS / "cid" / "kubo_t0290.json").read_text())["kubo_t0290"]["bases"]
NAMES = [name for _code, name in multibase.BASES]
INTEGER_NAMES = ["base10", "base36", "base36upper", "base58btc", "base58flickr"]
CASE_SENSITIVE = {"base58btc", "base58flickr", "base64", "base64pad", "base64url", "base64urlpad", "base45"}


def rows(file: str) -> list[tuple[bytes, str, str]]:
    """Return (input, base, text) of every row of a vector file."""
    header, *lines = csv.reader((VECTORS / "multibase" / file).read_text().splitlines(), skipinitialspace=True)
    data = header[1].encode().decode("unicode_escape").encode("latin-1")
    return [(data, base, text) for base, text in lines]


@pytest.mark.parametrize(
    ("data", "base", "text"), rows("basic.csv") + rows("leading_zero.csv") + rows("two_leading_zeros.csv")
)
def test_vectors_hold_both_ways(data: bytes, base: str, text: str) -> None:
    assert multibase.encode(data, base) == text
    assert multibase.decode_with_base(text) == (base, data)


@pytest.mark.parametrize(("data", "base", "text"), rows("case_insensitivity.csv"))
def test_case_does_not_matter_where_the_spec_says_so(data: bytes, base: str, text: str) -> None:
    assert multibase.decode_with_base(text) == (base, data)


@pytest.mark.parametrize("base", sorted(CASE_SENSITIVE))
def test_case_matters_in_the_other_bases(base: str) -> None:
    data = bytes(range(0, 250, 7))
    text = multibase.encode(data, base)
    try:
        decoded = multibase.decode(text[0] + text[1:].swapcase())
    except MultibaseError:
        return
    assert decoded != data


def test_the_table_agrees_with_the_registry() -> None:
    lines = csv.DictReader((VECTORS / "multibase" / "multibase.csv").read_text().splitlines(), skipinitialspace=True)
    registry = {(chr(int(line["Unicode"][2:], 16)), line["encoding"]) for line in lines}
    registry = {(code, name) for code, name in registry if name != "none"}
    assert set(multibase.BASES) - registry == {("\0", "identity")}  # withdrawn from the registry, listed by Kubo
    assert registry - set(multibase.BASES) == set()


def test_bases_come_in_the_order_in_which_kubo_lists_them() -> None:
    listed = [row[0] for row in KUBO_BASES]
    assert [name for name in NAMES if name in listed] == listed


@pytest.mark.parametrize("base", NAMES)
@given(data=st.binary(max_size=80))
def test_decode_undoes_encode(base: str, data: bytes) -> None:
    assert multibase.decode_with_base(multibase.encode(data, base)) == (base, data)


@pytest.mark.parametrize("base", [name for name in NAMES if name not in {"identity", "base45", "base256emoji"}])
@given(data=st.binary(max_size=80))
def test_encodings_equal_those_of_another_implementation(base: str, data: bytes) -> None:
    theirs = multiformats.multibase.encode(data, base)
    if base == "base8":  # it pads, which the vectors do not
        theirs = theirs.rstrip("=")
    assert multibase.encode(data, base) == theirs


@given(data=st.binary(min_size=1, max_size=80))
def test_common_encodings_equal_those_of_libipld(data: bytes) -> None:
    for code, base in multibase.BASES:
        if code not in "\0hpR":  # those that it lacks
            assert multibase.encode(data, base) == libipld.encode_multibase(code, data)


@given(text=st.text(max_size=60) | st.builds(str.__add__, st.sampled_from([c for c, _ in multibase.BASES]), st.text()))
def test_garbage_raises_only_multibase_errors(text: str) -> None:
    try:
        base, data = multibase.decode_with_base(text)
    except MultibaseError:
        return
    assert multibase.decode(multibase.encode(data, base)) == data


@pytest.mark.parametrize(
    "text",
    [
        *("", "?", "é", "\ud800", "b\ud800"),
        *("00", "0111", "0" + "1" * 9, "0102"),  # base2: whole bytes only
        *("71", "713", "78", "7\u0663"),  # base8
        *("9a", "9-1", "9 1", "9\u0663", "9_1"),  # base10: nothing else that Python's int() reads
        *("f0", "fgg", "f 00", "f0x00"),  # base16
        *("ba", "baaa", "baaaaaa", "ba=", "baa======", "ba1", "ba a", "b_a", "b-aaaaaaa"),  # base32
        *("caa", "caa=", "caa=====", "caa=======", "c========", "ca=a====="),  # base32pad
        *("vaw", "v0w", "h0l", "hYB"),  # base32hex, base32z
        *("k-", "k é"),
        *("z0", "zl", "zO", "zI", "Z0"),  # base58
        *("ma", "maa=", "ma-_", "m aa", "maa\n", "mé"),  # base64
        *("Maa", "Maa=", "Maaa", "Maa===", "M====", "Ma=aa"),  # base64pad
        *("uaa=", "ua+/", "Uaa"),
        *("p", "pro", "pa-lusab"),  # proquint
        "🚀x",
    ],
)
def test_texts_that_no_data_has_are_refused(text: str) -> None:
    with pytest.raises(MultibaseError):
        multibase.decode(text)


@pytest.mark.parametrize("text", ["7001", "bab", "cab======", "v01", "mAB", "MAB==", "uAB"])
def test_fill_bits_need_not_be_zero_as_in_go(text: str) -> None:
    assert multibase.decode(text) == b"\0"


@pytest.mark.parametrize("base", INTEGER_NAMES)
def test_integer_bases_are_bounded_both_ways(base: str) -> None:
    most = b"\xff" * integer_bases.MAX_BYTES
    text = multibase.encode(most, base)
    assert len(text) - 1 <= integer_bases.MAX_DIGITS
    assert multibase.decode(text) == most
    with pytest.raises(MultibaseError, match="over the limit"):
        multibase.encode(most + b"\xff", base)
    with pytest.raises(MultibaseError, match="over the limit"):
        multibase.decode(text[0] + "2" * (integer_bases.MAX_DIGITS + 1))


def test_long_texts_in_the_other_bases_are_decoded_in_linear_time() -> None:
    data = bytes(range(256)) * 400
    for base in ("base2", "base16", "base32", "base64url", "base256emoji"):
        assert multibase.decode(multibase.encode(data, base)) == data


def test_an_unknown_base_is_an_error_of_use_that_names_the_others() -> None:
    with pytest.raises(UnknownBaseError, match="unknown multibase 'base99'") as caught:
        multibase.encode(b"", "base99")
    assert isinstance(caught.value, UsageError)
    assert "base58btc" in str(caught.value.hint)


@given(data=st.binary(max_size=60))
def test_base58_without_a_prefix_is_base58btc(data: bytes) -> None:
    assert "z" + multibase.encode_base58(data) == multibase.encode(data, "base58btc")
    assert multibase.decode_base58(multibase.encode_base58(data)) == data


def test_base58_without_a_prefix_raises_multibase_errors_too() -> None:
    with pytest.raises(MultibaseError, match="'0' is not in its alphabet"):
        multibase.decode_base58("10")
    with pytest.raises(MultibaseError, match="over the limit"):
        multibase.encode_base58(bytes(integer_bases.MAX_BYTES + 1))
