import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_json, dag_pb
from ipvcs.objects.block import Block
from ipvcs.objects.dag_pb import DagPbError, PBLink, PBNode
from ipvcs.objects.data_model import EncodeError
from tests.unit.objects import codec_fixtures
from tests.unit.objects.values import nodes

CID = Cid.parse("bafkreifw7plhl6mofk6sfvhnfh64qmkq73oeqwl6sloru6rehaoujituke")
V0 = Cid.parse("QmaozNR7DZHQK1ZcU9p7QdrshMvXqWK6gpu5rmrkPdT3L4")
SORTED_BY_OTHERS = ("bad sort", "bad sort (incl length)")


@pytest.mark.parametrize(("name", "block"), codec_fixtures.load_of("dag-pb"))
def test_a_fixture_is_what_it_encodes_to(name: str, block: bytes) -> None:
    node = dag_pb.decode(block)
    assert dag_pb.encode(node) == block
    assert dag_pb.from_data_model(dag_pb.to_data_model(node)) == node


@pytest.mark.parametrize(
    "case", codec_fixtures.load_negative("dag-pb/decode/edges.json"), ids=lambda case: case["name"]
)
def test_a_negative_fixture_does_not_decode(case: dict[str, Any]) -> None:
    with pytest.raises(DagPbError):
        dag_pb.decode(bytes.fromhex(case["hex"]))


@pytest.mark.parametrize(
    "case",
    codec_fixtures.load_negative("dag-pb/encode/invalid-forms.json")
    + codec_fixtures.load_negative("dag-pb/encode/basic-datamodel-kinds.json"),
    ids=lambda case: case["name"],
)
def test_a_negative_form_does_not_encode_as_it_is(case: dict[str, Any]) -> None:
    form = dag_json.decode(json.dumps(case["dag-json"]).encode())
    if case["name"] in SORTED_BY_OTHERS:
        node = dag_pb.from_data_model(form)
        encoded = dag_pb.decode(dag_pb.encode(node))
        assert encoded != node
        assert sorted(link.name or b"" for link in node.links) == [link.name or b"" for link in encoded.links]
    else:
        with pytest.raises(EncodeError, match=r"^cannot encode as dag-pb: "):
            dag_pb.from_data_model(form)


def test_a_block_of_kubo_is_read() -> None:
    block = (codec_fixtures.FOLDER / "kubo-t0050" / "testPut.pb").read_bytes()
    assert dag_pb.decode(block) == PBNode(data=b"test json for sharness test")


def test_the_empty_block_is_the_empty_node() -> None:
    assert dag_pb.decode(b"") == PBNode()
    assert (
        str(Block.of(dag_pb.encode(PBNode()), 0x70, version=0).cid) == "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"
    )


def test_absent_and_empty_are_written_differently() -> None:
    assert dag_pb.encode(PBNode(data=b"")) == b"\x0a\x00"
    assert dag_pb.encode_link(PBLink(V0, None, None)) == b"\x0a\x22" + V0.raw
    assert dag_pb.encode_link(PBLink(V0, b"", 0)) == b"\x0a\x22" + V0.raw + b"\x12\x00\x18\x00"


def test_links_are_sorted_by_bytes_and_equal_names_keep_their_order() -> None:
    names = (b"b", None, b"a", b"\xff", b"", b"aa", b"\xc3\xa9")
    links = [PBLink(CID, name, size) for size, name in enumerate(names)]
    assert [link.size for link in dag_pb.sort_links(links)] == [1, 4, 2, 5, 0, 6, 3]


@given(st.lists(st.sampled_from((None, b"", b"a", b"b", b"aa")), max_size=40))
def test_sorting_is_stable_whichever_names_are_absent(names: list[bytes | None]) -> None:
    links = [PBLink(CID, name, size) for size, name in enumerate(names)]
    assert dag_pb.sort_links(iter(links)) == sorted(links, key=lambda link: (link.name or b"", link.size))


def test_the_decoder_keeps_the_order_it_finds() -> None:
    links = (PBLink(CID, b"b", 1), PBLink(V0, b"a", 2))
    assert dag_pb.decode(dag_pb.encode_parts(links, b"")).links == links


@given(nodes())
def test_a_node_comes_back_with_its_links_sorted(node: PBNode) -> None:
    encoded = dag_pb.encode(node)
    decoded = dag_pb.decode(encoded)
    assert decoded == replace(node, links=tuple(dag_pb.sort_links(node.links)))
    assert dag_pb.encode(decoded) == encoded
    assert dag_pb.from_data_model(dag_pb.to_data_model(decoded)) == decoded


@given(nodes())
def test_data_before_links_is_read_as_well(node: PBNode) -> None:
    links, data = dag_pb.encode_parts(node.links, None), dag_pb.encode_parts((), node.data)
    assert dag_pb.decode(data + links) == node


LINK = b"\x12\x24\x0a\x22" + V0.raw


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        (LINK + b"\x0a\x00" + LINK, "before and after"),
        (b"\x0a\x00\x0a\x00", "two data fields"),
        (b"\x0a\x00" + LINK + b"\x0a\x00", "two data fields"),
        (b"\x1a\x00", "unexpected field 3"),
        (b"\x10\x00", "unexpected field 2 of wire type 0"),
        (b"\x12\x48" + 2 * LINK[2:], "repeated or out of order"),
        (b"\x12\x26\x12\x00" + LINK[2:], "repeated or out of order"),
        (b"\x12\x26" + LINK[2:] + b"\x18\x00"[:1], "cut short"),
        (b"\x12\x26" + LINK[2:] + b"\x12\x05", "cut short"),
        (b"\x12\x26" + LINK[2:] + b"\x22\x00", "unexpected field 4"),
        (b"\x12\x26" + LINK[2:] + b"\x10\x00", "unexpected field 2 of wire type 0"),
        (b"\x12\x2f" + LINK[2:] + b"\x18" + b"\xff" * 9 + b"\x01", "over 63 bits"),
        (b"\x12\x04\x0a\x02\x12\x20", "bad CID"),
        (LINK[:-1], "cut short"),
        (b"\x0a\x05abc", "cut short"),
        (b"\x0a", "cut short"),
    ],
)
def test_a_malformed_node_is_refused(block: bytes, problem: str) -> None:
    with pytest.raises(DagPbError, match=problem):
        dag_pb.decode(block)


@given(nodes(), st.data())
def test_the_short_ways_of_reading_never_disagree_with_the_careful_one(node: PBNode, data: st.DataObject) -> None:
    block = bytearray(dag_pb.encode_parts(node.links, node.data))
    for _ in range(data.draw(st.integers(0, 3))):
        if block:
            block[data.draw(st.integers(0, len(block) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = bytes(block[: data.draw(st.integers(0, len(block)))]) if data.draw(st.booleans()) else bytes(block)
    try:
        careful: PBNode | None = dag_pb._decode_any(cut)
    except DecodeError:
        careful = None
    try:
        short = dag_pb._decode_common(cut)
    except (DecodeError, IndexError):
        short = None
    assert short is None or short == careful
    try:
        cids: list[Cid] | None = dag_pb.link_cids(cut)
    except DecodeError:
        cids = None
    assert cids == (careful and [link.cid for link in careful.links])


def test_a_name_that_is_not_utf8_survives_the_data_model() -> None:
    node = PBNode((PBLink(CID, b"caf\xe9", 1),))
    form = dag_pb.to_data_model(node)
    assert form == {"Links": [{"Hash": CID, "Name": "caf\udce9", "Tsize": 1}]}
    assert dag_pb.from_data_model(form) == node
