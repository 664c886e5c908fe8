import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.block import Block
from ipvcs.objects.commit import (
    MAX_INLINE_PERSON,
    MAX_LINK_SIZE,
    MAX_PERSON,
    CommitError,
    CommitObject,
    ObjectData,
    ObjectDataError,
    ObjectKind,
    PersonTooLongError,
    commit_of,
    decode_object_data,
    encode_commit,
    encode_object_data,
    parent_name,
    person_link,
)
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.object import decode_object
from ipvcs.objects.tag import TagObject, encode_tag, tag_of
from ipvcs.objects.unixfs import UnixfsError

EMPTY = Block.of(b"").cid
PAYLOAD = b"commit 5\0tree\n"

maybe_bytes = st.none() | st.binary(max_size=300)
sizes = st.integers(0, MAX_LINK_SIZE)
maybe_links = st.none() | st.builds(
    PBLink, st.binary(max_size=4).map(lambda data: Block.of(data).cid), st.just(b""), sizes
)
links = st.builds(PBLink, st.binary(max_size=4).map(lambda data: Block.of(data).cid), st.just(b""), sizes)


def link(name: bytes = b"", size: int | None = 0) -> PBLink:
    return PBLink(EMPTY, name, size)


def node(*names: bytes, kind: ObjectKind = ObjectKind.COMMIT, payload: bytes | None = PAYLOAD) -> PBNode:
    return PBNode(tuple(map(link, names)), encode_object_data(ObjectData(kind, payload)))


@st.composite
def commits(draw: st.DrawFn) -> CommitObject:
    payload, payload_link = draw(st.tuples(st.binary(max_size=300), st.none()) | st.tuples(st.none(), links))
    parents = tuple(draw(st.lists(links, max_size=12)))
    return CommitObject(draw(maybe_links), parents, draw(maybe_links), draw(maybe_links), payload, payload_link)


def test_the_bytes_of_an_object_message_are_kind_17_and_payload_18() -> None:
    assert encode_object_data(ObjectData(ObjectKind.COMMIT, b"hi")) == bytes.fromhex("880101 920102 6869")
    assert encode_object_data(ObjectData(ObjectKind.TAG, b"")) == bytes.fromhex("880102 920100")
    assert encode_object_data(ObjectData(ObjectKind.TAG)) == bytes.fromhex("880102")


def test_the_cid_of_a_small_commit_never_changes() -> None:
    author, _ = person_link(b"author", b"A <a@example.com>")
    committer, _ = person_link(b"committer", b"A <a@example.com>")
    commit = CommitObject(PBLink(EMPTY, b"", 4), (link(size=7),), author, committer, PAYLOAD)
    block = encode_commit(commit)
    assert block.hex() == (
        # author, an identity CID, before the others by its name; the data last
        "1221 0a15 01550011 41203c61406578616d706c652e636f6d3e 1206 617574686f72 1811"
        "1224 0a15 01550011 41203c61406578616d706c652e636f6d3e 1209 636f6d6d6974746572 1811"
        "1230 0a24 01551220 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 1206 6f626a656374 1804"
        "1230 0a24 01551220 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 1206 706172656e74 1807"
        "0a14 880101 92010e 636f6d6d69742035 00 747265650a"
    ).replace(" ", "")
    assert commit.cumulative_size(len(block)) == len(block) + 4 + 17 + 17
    assert str(Block.of(block, codecs.DAG_PB).cid) == "bafybeiaqjwj6pukotrlu5vqirc6gtdgox66e5ztpuyi7npusrzasdwpdgm"


@given(st.sampled_from(ObjectKind), maybe_bytes)
def test_no_object_message_is_unixfs(kind: ObjectKind, payload: bytes | None) -> None:
    with pytest.raises(UnixfsError):
        unixfs.decode(encode_object_data(ObjectData(kind, payload)))


@given(st.sampled_from(ObjectKind), maybe_bytes)
def test_an_object_message_decodes_to_what_was_encoded(kind: ObjectKind, payload: bytes | None) -> None:
    message = ObjectData(kind, payload)
    assert decode_object_data(encode_object_data(message)) == message


@given(st.binary(max_size=40) | st.binary(max_size=20).map(lambda tail: b"\x88\x01\x01\x92\x01" + tail))
def test_an_object_message_has_one_encoding(data: bytes) -> None:
    try:
        message = decode_object_data(data)
    except ObjectDataError:
        return
    assert encode_object_data(message) == data


@pytest.mark.parametrize(
    "data",
    [
        "",
        "0801",  # a UnixFS directory
        "8801",
        "880100",  # kind 0
        "880103",
        "88018100",  # kind not minimal
        "920100880101",  # payload first
        "88010192010261",  # cut short
        "8801019201016162",  # goes on
        "880101920181006161",  # length not minimal
        "8801019a010161",  # field 19
        "880101880101",  # kind twice
    ],
)
def test_other_encodings_of_an_object_message_are_refused(data: str) -> None:
    with pytest.raises(ObjectDataError):
        decode_object_data(bytes.fromhex(data))


@given(commits())
def test_a_commit_decodes_to_what_was_encoded(commit: CommitObject) -> None:
    decoded = decode_object(encode_commit(commit))
    assert isinstance(decoded, CommitObject)
    assert list(decoded.iter_links()) == list(commit.iter_links())
    assert decoded.payload == commit.payload


@given(maybe_links, maybe_links, st.binary(max_size=300))
def test_a_tag_decodes_to_what_was_encoded(target: PBLink | None, tagger: PBLink | None, payload: bytes) -> None:
    tag = TagObject(target, tagger, payload)
    decoded = decode_object(encode_tag(tag))
    assert isinstance(decoded, TagObject)
    assert list(decoded.iter_links()) == list(tag.iter_links())
    assert decoded.payload == payload


@given(st.binary(max_size=200))
def test_garbage_is_refused_with_our_errors_only(data: bytes) -> None:
    try:
        obj = decode_object(data)
    except DecodeError:
        return
    assert (encode_commit(obj) if isinstance(obj, CommitObject) else encode_tag(obj)) == data


def test_links_are_given_in_reading_order_and_stored_by_name() -> None:
    commit = CommitObject(link(), tuple(link() for _ in range(11)), link(), link(), None, link())
    names = [link.name for link in commit.iter_links()]
    assert names[:3] == [b"object", b"parent", b"parent2"]
    assert names[10:] == [b"parent10", b"parent11", b"author", b"committer", b"payload"]
    stored = [link.name for link in dag_pb.decode(encode_commit(commit)).links]
    assert stored[:6] == [b"author", b"committer", b"object", b"parent", b"parent10", b"parent11"]
    assert stored[6:8] == [b"parent2", b"parent3"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (node(b"object", b"author"), "not sorted"),
        (node(b"object", b"object"), "repeated"),
        (node(b"parent2"), "unexpected link 'parent2'"),
        (node(b"parent", b"parent3"), "unexpected link 'parent3'"),
        (node(b"parent", b"parent1"), "unexpected link 'parent1'"),
        (node(b"tagger"), "unexpected link 'tagger'"),
        (node(b""), "without name"),
        (node(b"payload"), "either an inline payload or a link"),
        (node(payload=None), "either an inline payload or a link"),
        (node(kind=ObjectKind.TAG), "object is a tag, not a commit"),
        (PBNode((link(b"object", None),), node().data), "without name or size"),
    ],
)
def test_a_malformed_commit_is_refused(bad: PBNode, why: str) -> None:
    with pytest.raises(CommitError, match=why):
        commit_of(bad)


def test_a_malformed_tag_is_refused() -> None:
    with pytest.raises(CommitError, match="tag has an unexpected link 'author'"):
        tag_of(node(b"author", kind=ObjectKind.TAG))


def test_a_commit_with_its_data_before_its_links_is_not_canonical() -> None:
    block = encode_commit(CommitObject(object=link(), payload=PAYLOAD))
    data = dag_pb.encode(PBNode((), node().data))
    swapped = data + block[: len(block) - len(data)]
    assert dag_pb.decode(swapped) == dag_pb.decode(block)
    with pytest.raises(CommitError, match="canonical"):
        decode_object(swapped)


@pytest.mark.parametrize("payloads", [(None, None), (b"", link())])
def test_a_commit_needs_exactly_one_payload(payloads: tuple[bytes | None, PBLink | None]) -> None:
    with pytest.raises(CommitError):
        encode_commit(CommitObject(payload=payloads[0], payload_link=payloads[1]))


def test_sizes_of_links_leave_history_out_and_saturate() -> None:
    commit = CommitObject(link(size=10), (link(size=1000),), link(size=3), link(size=3), None, link(size=500))
    assert commit.cumulative_size(100) == 116
    assert TagObject(link(size=10), link(size=3), b"").cumulative_size(100) == 110
    assert CommitObject(link(size=MAX_LINK_SIZE), payload=b"").cumulative_size(1) == MAX_LINK_SIZE == 2**53 - 1


def test_a_person_is_inline_up_to_64_bytes() -> None:
    person = b"x" * MAX_INLINE_PERSON
    short, nothing = person_link(b"author", person)
    assert (short.name, short.size, nothing) == (b"author", 64, None)
    assert short.cid.is_identity
    assert short.cid.digest == person
    long, block = person_link(b"tagger", person + b"x")
    assert block is not None
    assert (long.cid, block.data) == (block.cid, person + b"x")
    assert long == (Cid.of(block.cid.digest), b"tagger", 65)


def test_a_person_of_more_than_a_block_is_refused() -> None:
    assert person_link(b"author", bytes(MAX_PERSON))[0].size == MAX_PERSON
    with pytest.raises(PersonTooLongError):
        person_link(b"author", bytes(MAX_PERSON + 1))


def test_parents_are_numbered_from_the_second_on() -> None:
    assert [parent_name(index) for index in range(3)] == [b"parent", b"parent2", b"parent3"]
