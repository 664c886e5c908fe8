import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError, IpvcsError, LimitError
from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, json_fields, unixfs
from ipvcs.objects.block import Block
from ipvcs.objects.commit import CommitError, CommitObject, ObjectData, ObjectKind, encode_commit, encode_object_data
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.directory import build_sharded_directory
from ipvcs.objects.json_fields import ObjectJsonError, parse_json
from ipvcs.objects.object import NotAnObjectError
from ipvcs.objects.object_json import export_object, import_object
from ipvcs.objects.profile import UNIXFS_V1_2025
from ipvcs.objects.tag import TagObject, encode_tag
from ipvcs.objects.unixfs import DataType, Mtime, UnixfsData
from tests.unit.objects.dags import Blocks, inline

LEAF = Block.of(b"leaf").cid
NODE = Block.of(b"", codecs.DAG_PB).cid
PAYLOAD = (
    b"commit 123\0tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@b> 1400000000 +0000\n"
    b"committer C <c@d> 1411217046 +0200\n\nThis is a commit message.\n"
)

some_bytes = st.binary(max_size=30) | st.text(max_size=20).map(str.encode)
cids = st.sampled_from([LEAF, NODE, NODE.to_v0(), inline(b"in")])
links = st.builds(PBLink, cids, st.none() | some_bytes, st.none() | st.integers(0, 2**63 - 1))
nodes = st.builds(PBNode, st.lists(links, max_size=4).map(tuple), st.none() | some_bytes)
messages = st.builds(
    UnixfsData,
    st.sampled_from(DataType),
    st.none() | some_bytes,
    st.none() | st.integers(0, 2**64 - 1),
    st.lists(st.integers(0, 9), max_size=3).map(tuple),
    st.none() | st.integers(0, 2**64 - 1),
    st.none() | st.sampled_from([8, 256, 1024]),
    st.none() | st.integers(0, 0o7777),
    st.none() | st.builds(Mtime, st.integers(-(2**63), 2**63 - 1), st.integers(0, 10**9 - 1)),
)


@st.composite
def unixfs_nodes(draw: st.DrawFn) -> PBNode:
    """UnixFS nodes, half of them such that nothing contradicts anything."""
    node_links = tuple(draw(st.lists(links, max_size=3, unique_by=lambda link: link.name)))
    message = draw(messages)
    if draw(st.booleans()):
        sizes = tuple(draw(st.integers(0, 9)) for _ in node_links)
        message = UnixfsData(DataType.FILE, message.data, len(message.data or b"") + sum(sizes), sizes)
    return PBNode(node_links, unixfs.encode(message))


def through_json(document: dict[str, Any]) -> dict[str, Any]:
    return parse_json(json.dumps(document))


def check_inverse(block: Block) -> dict[str, Any]:
    document = export_object(block.cid, block.data)
    back = import_object(through_json(document))
    assert (back.cid, back.data) == (block.cid, block.data)
    return document


@given(some_bytes, st.sampled_from(["sha2-256", "sha1", "blake3", "blake2b-256", "sha2-512", "identity"]))
def test_a_blob_comes_back_from_its_json(data: bytes, function: str) -> None:
    document = check_inverse(Block.of(data, hash_code=multihash.code_of(function)))
    assert "block" not in document
    assert "blockBase64" not in document


@given(nodes | unixfs_nodes(), st.sampled_from([0, 1]))
def test_any_node_comes_back_from_its_json(node: PBNode, version: int) -> None:
    check_inverse(Block.of(dag_pb.encode(node), codecs.DAG_PB, version=version))


@given(st.lists(links, max_size=4), nodes | unixfs_nodes())
def test_nodes_that_no_encoder_of_ours_writes_come_back_from_their_json(unsorted: list[PBLink], node: PBNode) -> None:
    check_inverse(Block.of(dag_pb.encode_parts(unsorted, node.data), codecs.DAG_PB))
    data_first = dag_pb.encode(PBNode((), node.data)) + dag_pb.encode(PBNode(node.links))
    check_inverse(Block.of(data_first, codecs.DAG_PB))


sized = st.builds(PBLink, cids, st.just(b""), st.integers(0, 2**53))


@given(st.none() | sized, st.lists(sized, max_size=11), st.none() | sized, some_bytes | st.none())
def test_commits_and_tags_come_back_from_their_json(
    target: PBLink | None, parents: list[PBLink], person: PBLink | None, payload: bytes | None
) -> None:
    payload_link = PBLink(LEAF, b"payload", 4) if payload is None else None
    commit = CommitObject(target, tuple(parents), person, person, payload, payload_link)
    document = check_inverse(Block.of(encode_commit(commit), codecs.DAG_PB))
    assert document["data"]["type"] == "commit"
    tag = TagObject(target, person, payload, payload_link)
    document = check_inverse(Block.of(encode_tag(tag), codecs.DAG_PB))
    assert document["data"]["type"] == "tag"
    assert "block" not in document


def test_a_sharded_tree_comes_back_from_its_json() -> None:
    blocks = Blocks()
    entries = [PBLink(blocks.add(b"%d" % number), b"%d" % number, 1) for number in range(200)]
    cid = build_sharded_directory(entries, UNIXFS_V1_2025, blocks).cid
    document = check_inverse(Block(cid, blocks.get(cid)))
    assert document["data"] | {"bitfieldBase64": ""} == {
        "type": "tree",
        "unixfs": "hamt-shard",
        "bitfieldBase64": "",
        "hashType": 34,
        "fanout": 256,
    }


def test_a_commit_reads_as_in_the_white_paper() -> None:
    commit = CommitObject(PBLink(NODE, b"", 5198), (PBLink(NODE, b"", 25309),), PBLink(LEAF, b"", 109), None, PAYLOAD)
    block = encode_commit(commit)
    document = export_object(Block.of(block, codecs.DAG_PB).cid, block)
    assert document["data"]["type"] == "commit"
    assert document["data"]["date"] == "2014-09-20 14:44:06+02:00"
    assert document["data"]["message"] == "This is a commit message.\n"
    assert document["links"] == [
        {"name": "object", "hash": str(NODE), "size": 5198},
        {"name": "parent", "hash": str(NODE), "size": 25309},
        {"name": "author", "hash": str(LEAF), "size": 109},
    ]


@pytest.mark.parametrize(
    ("line", "date"),
    [
        (b"committer A <a> 0 +0000", "1970-01-01 00:00:00Z"),
        (b"committer A> <a> -1 -0130", "1969-12-31 22:29:59-01:30"),
        (b"tagger A <a> 1411217046 +0000", "2014-09-20 12:44:06Z"),
        (b"author A <a> 0 +0000", None),
        (b"committer A <a> 99999999999999 +0000", None),
        (b"committer A <a> 0 +9900", None),
        (b"committer A <a>", None),
    ],
)
def test_the_date_is_the_committers_or_taggers_if_there_is_such_a_date(line: bytes, date: str | None) -> None:
    data = dag_pb.encode(PBNode((), encode_object_data(ObjectData(ObjectKind.TAG, b"tag 1\0x y\n" + line + b"\n\n"))))
    document = check_inverse(Block.of(data, codecs.DAG_PB))
    assert document["data"].get("date") == date
    assert "message" not in document["data"]


def test_bytes_that_are_no_text_are_base64() -> None:
    document = export_object(Block.of(b"\xff").cid, b"\xff")
    assert document == {"data": {"type": "blob", "contentBase64": "/w=="}, "links": []}
    document = export_object(Block.of(b"text").cid, b"text")
    assert document == {"data": {"type": "blob", "content": "text"}, "links": []}
    node = dag_pb.encode(PBNode((PBLink(LEAF, b"\xff", 4),), unixfs.EMPTY_DIRECTORY))
    document = export_object(Block.of(node, codecs.DAG_PB).cid, node)
    assert document["links"] == [{"nameBase64": "/w==", "hash": str(LEAF), "size": 4}]


def test_objects_can_be_written_by_hand() -> None:
    tree = import_object({"data": {"type": "tree"}, "links": [link("b"), link("a")]})
    assert tree.data == dag_pb.encode(PBNode((PBLink(LEAF, b"a", 4), PBLink(LEAF, b"b", 4)), b"\x08\x01"))
    blob_list = import_object({"data": {"type": "list", "mode": "755"}, "links": [link(), link()]})
    message = UnixfsData(DataType.FILE, None, 8, (4, 4), mode=0o755)
    assert blob_list.data == dag_pb.encode(PBNode((PBLink(LEAF, b"", 4),) * 2, unixfs.encode(message)))
    symlink = import_object({"data": {"type": "symlink", "target": "x"}, "links": []})
    assert symlink.data == dag_pb.encode(PBNode((), unixfs.encode(UnixfsData(DataType.SYMLINK, b"x"))))
    v0 = import_object({"cid-version": 0, "data": {"type": "tree"}, "links": []})
    assert str(v0.cid) == "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"  # the empty directory everybody has


def link(name: str | None = None, cid: Cid = LEAF, **fields: object) -> dict[str, object]:
    return ({} if name is None else {"name": name}) | {"hash": str(cid), "size": 4} | fields


def doc(kind: str, *doc_links: dict[str, object], **fields: object) -> dict[str, object]:
    return {"data": {"type": kind, **fields}, "links": list(doc_links)}


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ([], ""),
        ({}, "data"),
        ({"data": {}}, "links"),
        ({"data": {}, "links": []}, "data.type"),
        ({"data": [], "links": []}, "data"),
        (doc("bolb"), "data.type"),
        (doc("blob", contnet="x"), "data.contnet"),
        (doc("blob", content="\ud800"), "data.content"),
        (doc("blob", content=5), "data.content"),
        (doc("blob", contentBase64="%"), "data.contentBase64"),
        (doc("blob", contentBase64="\u00e4"), "data.contentBase64"),
        (doc("blob", content="", contentBase64=""), "data.content"),
        (doc("blob", link()), "links"),
        (doc("blob", link(), unixfs="file"), "links"),
        (doc("blob", unixfs="symlink"), "data.unixfs"),
        (doc("tree", unixfs="x"), "data.unixfs"),
        (doc("list"), "links"),
        (doc("list", link(), blocksizes=[]), "data.blocksizes"),
        (doc("list", link(), blocksizes=[True]), "data.blocksizes"),
        (doc("list", link(cid=NODE)), "data.blocksizes"),
        (doc("tree", link("a"), link("a")), "links"),
        (doc("tree", link()), "links"),
        (doc("tree", link("a/b")), "links"),
        (doc("tree", mode="9"), "data.mode"),
        (doc("tree", mtime={"seconds": 2**63}), "data.mtime"),
        (doc("tree", mtime={"seconds": 0, "nanoseconds": 10**9}), "data.mtime"),
        (doc("tree", mtime={"seconds": 0, "x": 0}), "data.mtime.x"),
        (doc("tree", {"name": "a"}), "links[0].hash"),
        (doc("tree", link("a"), link("b", size=-1)), "links[1].size"),
        (doc("tree", link("a", size=True)), "links[0].size"),
        (doc("tree", link("a", size=2**63)), "links[0].size"),
        (doc("tree", link("a", target="x")), "links[0].target"),
        (doc("commit", message="x"), "data.payload"),
        (doc("commit", payload="commit 1\0x", message="y"), "data.message"),
        (doc("commit", payload="commit 1\0x\n\nm", message="y"), "data.message"),
        ({**doc("node", content="a"), "block": "\x0a\x01b"}, "block"),
        ({**doc("blob"), "extra": 1}, "extra"),
    ],
)
def test_a_bad_document_is_refused_by_the_field_at_fault(document: object, where: str) -> None:
    with pytest.raises(ObjectJsonError) as caught:
        import_object(document)
    assert caught.value.where == where


def test_a_commit_with_links_that_no_commit_has_is_refused() -> None:
    with pytest.raises(CommitError, match="unexpected link 'x'"):
        import_object(doc("commit", link("x"), payload=""))


def test_a_date_that_the_payload_does_not_say_is_refused() -> None:
    good = doc("commit", payload=PAYLOAD.decode(), date="2014-09-20 14:44:06+02:00")
    assert import_object(good).cid.codec == codecs.DAG_PB
    with pytest.raises(ObjectJsonError, match=r"'data.date' is not what the payload says"):
        import_object(doc("commit", payload=PAYLOAD.decode(), date="2014-09-20 12:44:06Z"))


def test_truncated_digests_come_back() -> None:
    data = b"x"
    cid = Cid.make(multihash.sum_(data, multihash.SHA2_512, 32))
    document = export_object(cid, data)
    assert (document["mhtype"], document["mhlen"]) == ("sha2-512", 32)
    assert import_object(through_json(document)).cid == cid


def test_blocks_of_other_codecs_have_no_object_json() -> None:
    with pytest.raises(NotAnObjectError):
        export_object(Block.of(b"\xa0", codecs.DAG_CBOR).cid, b"\xa0")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": 1, "a": 2}', "[" * 100_000, '{"a": ' + "1" * 5000 + "}", b"\xff"]
)
def test_text_that_is_no_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(ObjectJsonError):
        parse_json(text)


def test_json_beyond_all_measure_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_fields, "MAX_JSON", 10)
    with pytest.raises(LimitError):
        parse_json("{" + " " * 10)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(str(LEAF)),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=5,
)
known_fields = "content unixfs blocksizes filesize hashType fanout mode mtime payload message date target"
field_names = st.sampled_from(known_fields.split(" "))


@given(
    st.fixed_dictionaries(
        {
            "data": st.dictionaries(field_names, json_values, max_size=4)
            | st.builds(
                lambda kind, more: {**more, "type": kind},
                st.sampled_from(["blob", "list", "tree", "symlink", "commit", "tag", "node"]),
                st.dictionaries(field_names, json_values, max_size=2),
            ),
            "links": st.lists(
                st.fixed_dictionaries({"name": json_values, "hash": json_values, "size": json_values}), max_size=2
            ),
        },
        optional={"block": json_values, "mhtype": json_values, "mhlen": json_values, "cid-version": json_values},
    )
)
def test_any_document_is_an_object_or_one_of_our_errors(document: dict[str, Any]) -> None:
    try:
        block = import_object(document)
    except IpvcsError:
        return
    check_inverse(block)


def test_base64_in_the_block_field_must_agree_with_the_rest() -> None:
    block = Block.of(dag_pb.encode_parts([PBLink(LEAF, b"b"), PBLink(LEAF, b"a")], None), codecs.DAG_PB)
    document = check_inverse(block)
    assert base64.b64decode(document["blockBase64"]) == block.data
    document["links"].reverse()
    with pytest.raises(DecodeError, match="holds other bytes"):
        import_object(document)
