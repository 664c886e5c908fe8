import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IntegrityError, IpvcsError
from ipvcs.multiformats import codecs
from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.block import Block
from ipvcs.objects.commit import ObjectData, ObjectKind, encode_object_data
from ipvcs.objects.git.modes import KIND_OF_TYPE, NodeKind
from ipvcs.objects.git.node import GitNodeError, PayloadTooLargeError
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId, git_oid
from ipvcs.objects.git.payload import GitType
from ipvcs.objects.git.read import git_payload, open_object
from ipvcs.objects.unixfs import DataType, UnixfsData
from tests.fakes.memory_blocks import MemoryBlocks
from tests.unit.objects.git.repository import Repository

SHA1 = ObjectFormat.SHA1


def node_of(store: MemoryBlocks, data: bytes | None) -> Block:
    block = Block.of(dag_pb.encode_parts((), data), codecs.DAG_PB)
    store.put(block)
    return block


def one_of_each(repository: Repository) -> dict[GitType, ObjectId]:
    blob = repository.blob(b"x")
    tree = repository.tree([(b"100644", b"a", blob)])
    commit = repository.commit(tree)
    tag = repository.tag(commit, GitType.COMMIT)
    return {GitType.BLOB: blob, GitType.TREE: tree, GitType.COMMIT: commit, GitType.TAG: tag}


@pytest.mark.parametrize("git_type", GitType)
def test_a_payload_is_read_without_its_id_too(git_type: GitType) -> None:
    repository = Repository()
    oid = one_of_each(repository)[git_type]
    cid = repository.map(oid, KIND_OF_TYPE[git_type]).cid
    assert git_payload(repository.store, cid) == (git_type, repository.payloads[oid])


@pytest.mark.parametrize("git_type", GitType)
def test_a_node_that_carries_another_object_is_refused(git_type: GitType) -> None:
    repository = Repository()
    objects = one_of_each(repository)
    cid = repository.map(objects[git_type], KIND_OF_TYPE[git_type]).cid
    for other in (ObjectId(bytes(20)), *(oid for each, oid in objects.items() if each is not git_type)):
        with pytest.raises(IntegrityError, match=f"object '{other}' is damaged"):
            open_object(repository.store, cid, other, SHA1).body()


def test_a_verbatim_file_comes_back_as_the_object_it_is() -> None:
    repository = Repository()
    for git_type, oid in one_of_each(repository).items():
        payload = repository.payloads[oid]
        mapped = repository.mapper.map_payload(oid, NodeKind.VERBATIM, payload)
        opened = open_object(repository.store, mapped.cid, oid, SHA1)
        assert (opened.type, opened.payload()) == (git_type, payload)
        blob = repository.blob(payload)  # the same file is also a blob of another id
        assert open_object(repository.store, mapped.cid, blob, SHA1).body() == payload


def test_a_form_that_contradicts_its_payload_is_refused() -> None:
    store = MemoryBlocks()
    payload = b"tag 0\0"
    forms = [
        encode_object_data(ObjectData(ObjectKind.COMMIT, payload)),
        unixfs.encode(UnixfsData(DataType.DIRECTORY, data=payload)),
    ]
    for data in forms:
        with pytest.raises(GitNodeError, match="but its payload is a tag"):
            open_object(store, node_of(store, data).cid, git_oid(SHA1, payload), SHA1)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "it has no data"),
        (unixfs.EMPTY_DIRECTORY, "it has no payload"),
        (encode_object_data(ObjectData(ObjectKind.TAG)), "it has no payload"),
        (unixfs.encode(UnixfsData(DataType.METADATA)), "not a directory"),
    ],
)
def test_a_node_without_payload_is_refused(data: bytes | None, problem: str) -> None:
    store = MemoryBlocks()
    with pytest.raises(IpvcsError, match=problem):
        git_payload(store, node_of(store, data).cid)


def test_a_node_of_another_codec_is_refused() -> None:
    store = MemoryBlocks()
    block = Block.of(b"\xa0", codecs.DAG_CBOR)
    store.put(block)
    with pytest.raises(GitNodeError, match="it is dag-cbor"):
        git_payload(store, block.cid)


def test_two_payloads_are_one_too_many() -> None:
    repository = Repository()
    file = repository.map(repository.blob(b"commit 0\0"), NodeKind.REGULAR)
    data = encode_object_data(ObjectData(ObjectKind.COMMIT, b"commit 0\0"))
    block = Block.of(dag_pb.encode_parts((file.link(b"payload"),), data), codecs.DAG_PB)
    repository.store.put(block)
    with pytest.raises(GitNodeError, match="it has two payloads"):
        git_payload(repository.store, block.cid)


def test_payloads_over_the_limit_are_not_read() -> None:
    repository = Repository()
    blob = repository.blob(b"x" * 100)
    wide = repository.tree([(b"100644", b"n" * 70_000, blob)])
    for oid, kind in ((blob, NodeKind.REGULAR), (wide, NodeKind.DIRECTORY)):
        cid = repository.map(oid, kind).cid
        with pytest.raises(PayloadTooLargeError, match="over the limit of 99"):
            git_payload(repository.store, cid, max_payload=99)


@given(st.binary(max_size=80), st.sampled_from([codecs.RAW, codecs.DAG_PB]))
def test_garbage_raises_only_our_errors(data: bytes, codec: int) -> None:
    store = MemoryBlocks()
    block = Block.of(data, codec)
    store.put(block)
    with pytest.raises(IpvcsError):
        open_object(store, block.cid, ObjectId(bytes(20)), SHA1).body()
