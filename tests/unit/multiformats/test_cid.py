import json
from pathlib import Path

import libipld
import multiformats
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ipvcs.multiformats import codecs, multibase, multihash
from ipvcs.multiformats.cid import Cid, CidError
from tests.strategies import cids, multihashes

VECTORS = Path(__file__).parents[2] / "vectors" / "cid"
KUBO = json.loads((VECTORS / "kubo_t0290.json").read_text())["kubo_t0290"]
GO_CID = (VECTORS / "go-cid_strings.txt").read_text().split()
BASES = [name for _code, name in multibase.BASES]


@pytest.mark.parametrize(
    ("given_", "base32", "base58"),
    list(zip(KUBO["various_in"], KUBO["various_base32"], KUBO["various_v1_base58btc"], strict=True)),
)
def test_one_cid_in_several_texts(given_: str, base32: str, base58: str) -> None:
    cid = Cid.parse(given_.strip()).to_v1()
    assert str(cid) == base32
    assert cid.encode("base58btc") == base58
    assert cid == Cid.parse(base32) == Cid.parse(base58)


def test_versions_convert_into_each_other() -> None:
    v0, base58, base32 = KUBO["triple_v0_v1b58_v1b32"]
    assert str(Cid.parse(base32).to_v0()) == v0
    assert Cid.parse(v0).to_v1().encode("base58btc") == base58
    assert Cid.parse(v0).to_v1() == Cid.parse(base32) != Cid.parse(v0)


@pytest.mark.parametrize("codec", ["dag-pb", "raw", "dag-cbor"])
def test_one_digest_under_several_codecs(codec: str) -> None:
    v0 = Cid.parse(KUBO["same_digest"]["v0"])
    cid = v0.with_codec(codecs.code_of(codec))
    assert str(cid) == KUBO["same_digest"][codec]
    assert cid.multihash == v0.multihash
    assert codecs.name_of(cid.codec) == codec


@pytest.mark.parametrize("text", GO_CID)
def test_texts_of_go_cid_parse_and_print(text: str) -> None:
    cid = Cid.parse(text)
    base = "" if text.startswith("Qm") else multibase.decode_with_base(text)[0]
    assert cid.encode(base) == text
    assert Cid.decode(cid.raw) == cid


@given(cids())
def test_decode_undoes_encode_in_both_forms(cid: Cid) -> None:
    assert Cid.decode(cid.raw) == cid
    assert Cid.parse(str(cid)) == cid
    assert repr(cid) == f"Cid({cid})"


@given(cids(), st.sampled_from(BASES))
def test_a_v1_cid_is_parsed_from_every_multibase(cid: Cid, base: str) -> None:
    cid = cid.to_v1()
    assert Cid.parse(cid.encode(base)) == cid


@given(cids(), st.binary(max_size=4), st.binary(max_size=4))
def test_read_finds_the_end_wherever_the_cid_stands(cid: Cid, before: bytes, after: bytes) -> None:
    data = before + cid.raw + after
    end = len(before) + len(cid.raw)
    assert Cid.read(data, len(before)) == (cid, end)
    assert Cid.read(memoryview(data), len(before)) == (cid, end)


@given(cids())
def test_the_fields_make_up_the_cid(cid: Cid) -> None:
    assert Cid.make(cid.multihash, cid.codec, cid.version) == cid
    assert multihash.decode(cid.multihash) == (cid.hash_code, cid.digest)
    assert cid.is_identity == (cid.hash_code == multihash.IDENTITY)
    prefix = b"\x00\x70\x12\x20" if cid.version == 0 else cid.raw[: len(cid.raw) - len(cid.digest)]
    assert cid.prefix == prefix


@given(cids())
def test_fields_and_text_equal_those_of_libipld(cid: Cid) -> None:
    theirs = libipld.decode_cid(str(cid))
    assert theirs["version"] == cid.version
    assert theirs["codec"] == cid.codec
    assert theirs["hash"] == {"code": cid.hash_code, "size": len(cid.digest), "digest": cid.digest}
    assert libipld.encode_cid(cid.raw) == str(cid)


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["raw", "dag-pb", "dag-cbor"]))
def test_fields_and_text_equal_those_of_multiformats(digest: bytes, codec: str) -> None:
    cid = Cid.of(digest, codecs.code_of(codec))
    theirs = multiformats.CID("base32", 1, codec, ("sha2-256", digest))
    assert bytes(theirs) == cid.raw
    assert str(theirs) == str(cid)
    assert multiformats.CID.decode(cid.encode("base58btc")) == theirs.set(base="base58btc")


@given(cids(), cids())
def test_equality_hash_and_order_are_those_of_the_bytes(one: Cid, two: Cid) -> None:
    assert (one == two) == (one.raw == two.raw)
    assert (one < two) == (one.raw < two.raw)
    assert hash(one) == hash(Cid.decode(bytes(bytearray(one.raw))))
    assert one != one.raw


@given(
    st.binary(max_size=60)
    | st.binary(max_size=40).map(b"\x01\x55".__add__)
    | st.binary(max_size=40).map(b"\x12".__add__)
)
def test_garbage_bytes_raise_only_cid_errors(data: bytes) -> None:
    try:
        cid = Cid.decode(data)
    except CidError:
        return
    assert cid.raw == data
    assert Cid.parse(str(cid)) == cid


@given(st.text(max_size=60) | st.builds(str.__add__, st.sampled_from([code for code, _ in multibase.BASES]), st.text()))
def test_garbage_text_raises_only_cid_errors(text: str) -> None:
    try:
        cid = Cid.parse(text)
    except CidError:
        return
    assert Cid.parse(str(cid)) == cid


@given(cids(), st.data())
def test_a_cid_that_is_cut_or_too_long_is_refused(cid: Cid, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(cid.raw) - 1))
    with pytest.raises(CidError):
        Cid.decode(cid.raw[:cut])
    with pytest.raises(CidError, match="1 bytes follow"):
        Cid.decode(cid.raw + b"\0")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "cut short"),
        ("00", "unknown CID version 0"),
        ("0055122000", "unknown CID version 0"),
        ("02551220" + "00" * 32, "unknown CID version 2"),
        ("1220" + "00" * 31, "CIDv0 is cut short"),
        ("81005512" + "20" + "00" * 32, "not minimal"),
        ("01d5001220" + "00" * 32, "not minimal"),
        ("0155128101" + "00" * 129, "129 bytes is over the limit"),
        ("01551220" + "00" * 31, "cut short"),
        ("01551e" + "ff" * 9, "longer than 9 bytes"),
    ],
)
def test_bad_bytes_are_refused_with_the_reason(data: str, message: str) -> None:
    with pytest.raises(CidError, match=message):
        Cid.decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "too short"),
        ("b", "too short"),
        ("b" * 3000, "longer than 2048 characters"),
        ("hello", "base32z"),
        ("/ipfs/bafkqaaa", "unknown multibase prefix '/'"),
        ("QmYNmQKp6SuaVrpgWRsPTgCQCnpxUYGq76YEKBXuj2N4H", "unknown multibase prefix 'Q'"),
        ("Qm" + "0" * 44, "'0' is not in its alphabet"),
        ("Qm" + "z" * 44, "not a sha2-256 multihash"),
        ("zQmYNmQKp6SuaVrpgWRsPTgCQCnpxUYGq76YEKBXuj2N4H6", "CIDv0 has no multibase prefix"),
        ("f1114", "unknown CID version 17"),
        ("bafkqaaaa", "1 bytes follow the CID"),
    ],
)
def test_bad_text_is_refused_with_the_reason_and_the_text(text: str, message: str) -> None:
    with pytest.raises(CidError, match=message) as caught:
        Cid.parse(text)
    assert caught.value.subject in (text, "''")
    assert len(str(caught.value)) < 200
    assert "bafy" in str(caught.value.hint) or "Qm" in str(caught.value.hint)


@given(multihashes(), st.integers(0, codecs.MAX_CODE))
def test_only_dag_pb_with_sha2_256_has_a_v0_form(value: bytes, codec: int) -> None:
    assume(codec != codecs.DAG_PB or value[:2] != b"\x12\x20")
    with pytest.raises(CidError, match="dag-pb with sha2-256 only"):
        Cid.make(value, codec).to_v0()


def test_v0_is_written_in_base58btc_only() -> None:
    cid = Cid.parse(KUBO["same_digest"]["v0"])
    assert cid.encode("base58btc") == str(cid)
    with pytest.raises(CidError, match="base58btc only"):
        cid.encode("base32")


def test_an_unknown_base_or_version_is_refused() -> None:
    cid = Cid.parse("bafkqaaa")
    with pytest.raises(multibase.UnknownBaseError):
        cid.encode("base99")
    with pytest.raises(CidError, match="unknown CID version 2"):
        Cid.make(cid.multihash, version=2)


def test_the_longest_cid_is_parsed_in_the_longest_base() -> None:
    cid = Cid.make(multihash.wrap(codecs.MAX_CODE, bytes(multihash.MAX_DIGEST)), codecs.MAX_CODE)
    assert Cid.parse(cid.encode("base2")) == cid


def test_a_cid_is_immutable_and_small() -> None:
    cid = Cid.parse("bafkqaaa")
    with pytest.raises(AttributeError):
        cid.raw = b""  # type: ignore[misc]
    assert not hasattr(cid, "__dict__")
