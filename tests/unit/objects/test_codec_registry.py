import pytest

from ipvcs.errors import DecodeError
from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import codec_registry, dag_pb
from ipvcs.objects.block import Block
from ipvcs.objects.codec_registry import UnsupportedCodecError
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.data_model import EncodeError, Value, iter_links
from tests.unit.objects import codec_fixtures

A = Cid.parse("bafkqaaa")
B = Cid.parse("bafkreifw7plhl6mofk6sfvhnfh64qmkq73oeqwl6sloru6rehaoujituke")


def cid_of(codec: str | int, data: bytes = b"") -> Cid:
    return Block.of(data, codecs.code_of(codec) if isinstance(codec, str) else codec).cid


@pytest.mark.parametrize("name", codec_fixtures.load())
def test_every_form_of_a_fixture_is_turned_into_every_other(name: str) -> None:
    forms = codec_fixtures.load()[name]
    for cid, block in forms.values():
        value = codec_registry.decode(cid, block)
        for codec, (_, expected) in forms.items():
            assert codec_registry.encode(codecs.code_of(codec), value) == expected


@pytest.mark.parametrize("name", codec_fixtures.load())
def test_links_are_those_of_the_data_model(name: str) -> None:
    for cid, block in codec_fixtures.load()[name].values():
        assert codec_registry.links_of(cid, block) == list(iter_links(codec_registry.decode(cid, block)))


def test_links_of_dag_pb_are_in_their_order_and_as_often_as_they_are_there() -> None:
    block = dag_pb.encode_parts((PBLink(B, b"z"), PBLink(A, b"a"), PBLink(B, b"a")), b"data")
    assert codec_registry.links_of(cid_of("dag-pb"), block) == [B, A, B]
    assert codec_registry.links_of(Cid.parse("QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"), b"") == []


@pytest.mark.parametrize("codec", ["raw", "cbor", "json", "libp2p-key"])
def test_codecs_without_links_are_not_even_parsed(codec: str) -> None:
    assert codec_registry.links_of(cid_of(codec), b"\xff{") == []


def test_a_raw_block_is_its_bytes_and_takes_nothing_else() -> None:
    assert codec_registry.decode(cid_of("raw"), b"\x00\xff") == b"\x00\xff"
    assert codec_registry.encode(codecs.RAW, b"\x00\xff") == b"\x00\xff"
    with pytest.raises(EncodeError, match=r"^cannot encode as raw: value is not bytes but string$"):
        codec_registry.encode(codecs.RAW, "text")


def test_dag_cbor_is_read_leniently_and_written_canonically() -> None:
    block = bytes.fromhex("a2616218016161f93e00")
    value: Value = {"b": 1, "a": 1.5}
    assert codec_registry.decode(cid_of("dag-cbor"), block) == value
    assert codec_registry.encode(codecs.DAG_CBOR, value).hex() == "a26161fb3ff8000000000000616201"


@pytest.mark.parametrize(("code", "size"), [(multihash.SHA1, 20), (multihash.SHA2_256, 32)])
def test_git_ids_are_of_the_function_of_the_cid(code: int, size: int) -> None:
    block = b"tree %d\x00100644 a\x00" % (9 + size) + bytes(size)
    cid = Block.of(block, codecs.GIT_RAW, code).cid
    child = Cid.make(multihash.wrap(code, bytes(size)), codecs.GIT_RAW)
    assert codec_registry.links_of(cid, block) == [child]
    assert codec_registry.decode(cid, block) == {"a": {"mode": "100644", "hash": child}}


def test_an_unknown_codec_is_an_error_that_says_what_there_is() -> None:
    for read in (codec_registry.decode, codec_registry.links_of):
        with pytest.raises(UnsupportedCodecError, match="cannot read codec 'eth-block'") as caught:
            read(cid_of("eth-block"), b"")
        assert "dag-pb" in (caught.value.hint or "")
    with pytest.raises(UnsupportedCodecError, match="cannot write codec 'git-raw'"):
        codec_registry.encode(codecs.GIT_RAW, b"")
    with pytest.raises(UnsupportedCodecError, match="cannot read codec '0x99999'"):
        codec_registry.links_of(cid_of(0x99999), b"")


@pytest.mark.parametrize("codec", ["dag-pb", "dag-cbor", "dag-json", "git-raw"])
def test_bytes_of_another_format_are_a_decode_error(codec: str) -> None:
    for read in (codec_registry.decode, codec_registry.links_of):
        with pytest.raises(DecodeError):
            read(cid_of(codec), b"\xff\x00 not this")


def test_a_node_is_encoded_with_its_links_sorted() -> None:
    value: Value = {"Links": [{"Hash": A, "Name": "b"}, {"Hash": B, "Name": "a"}], "Data": b"x"}
    expected = dag_pb.encode(PBNode((PBLink(A, b"b", None), PBLink(B, b"a", None)), b"x"))
    assert codec_registry.encode(codecs.DAG_PB, value) == expected
