"""Blobs: their three kinds at every size where the layout changes, and the proof that goes with the bytes."""

import tracemalloc

import pytest

from ipvcs.errors import IntegrityError
from ipvcs.multiformats import codecs
from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.blob import reader_of
from ipvcs.objects.git.mapping import Mapper, ProfileError
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId, git_oid
from ipvcs.objects.git.read import open_object
from ipvcs.objects.profile import PROFILES
from tests.fakes.memory_blocks import DiscardingWriter, MemoryBlocks
from tests.streams import chacha20_stream
from tests.unit.objects.git.naive_mapping import NaiveMapping
from tests.unit.objects.git.repository import Repository

KIB, MIB = 1024, 1024 * 1024
EDGES = [0, 1, *(size + d for size in (4096, 256 * KIB, MIB, 2 * MIB) for d in (-1, 0, 1)), 3 * MIB]
BLOB_KINDS = [NodeKind.REGULAR, NodeKind.EXECUTABLE, NodeKind.SYMLINK]
STREAM = chacha20_stream("git blobs", 3 * MIB)


@pytest.mark.parametrize("kind", BLOB_KINDS)
@pytest.mark.parametrize("size", EDGES)
def test_a_blob_of_any_size_is_what_the_document_says_and_comes_back(size: int, kind: NodeKind) -> None:
    repository = Repository()
    body = STREAM[:size]
    mapped = repository.round_trip(repository.blob(body), kind)
    oracle = NaiveMapping()
    assert (mapped.cid.raw, mapped.size) == oracle.blob(kind, body)
    assert {cid.raw: data for cid, data in repository.store.blocks.items()} == oracle.blocks


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", BLOB_KINDS)
def test_a_profile_chooses_the_chunker_and_nothing_else(profile: str, kind: NodeKind) -> None:
    repository = Repository(profile=profile)
    mapped = repository.round_trip(repository.blob(STREAM), kind)
    assert all(cid.version == 1 for cid in repository.store.blocks)
    root = dag_pb.decode(repository.store.get(mapped.cid))
    leaves = [link.cid for link in root.links]
    assert all(cid.codec == codecs.RAW for cid in leaves)
    sizes = [len(repository.store.get(cid)) for cid in leaves]
    assert sum(sizes) == len(STREAM)
    fixed = {"size-262144": 256 * KIB, "size-1048576": MIB}.get(PROFILES[profile].chunker)
    assert max(sizes) <= MIB
    assert fixed is None or set(sizes) == {fixed}


def test_an_executable_shares_its_leaves_with_the_plain_blob_and_leaves_no_other_root() -> None:
    repository = Repository()
    oid = repository.blob(STREAM)
    executable = repository.map(oid, NodeKind.EXECUTABLE)
    blocks = set(repository.store.blocks)
    plain = repository.map(oid, NodeKind.REGULAR)
    assert set(repository.store.blocks) - blocks == {plain.cid}
    root = repository.store.get(executable.cid)
    assert unixfs.decode(dag_pb.decode(root).data or b"").mode == 0o755
    assert dag_pb.decode(root).links == dag_pb.decode(repository.store.get(plain.cid)).links
    assert FileReader(repository.store, executable.cid).read() == STREAM


def test_bytes_of_another_object_are_refused() -> None:
    mapper = Repository().mapper
    oid = git_oid(ObjectFormat.SHA1, b"blob 5\0right")
    for kind in BLOB_KINDS:
        for size, body in ((5, b"wrong"), (5, b"right!"), (5, b"righ"), (4, b"right"), (6, b"right")):
            with pytest.raises(IntegrityError, match=f"object '{oid}' is damaged"):
                mapper.map_blob(oid, kind, size, reader_of(body))
        assert mapper.map_blob(oid, kind, 5, reader_of(b"right")).kind is kind


def test_where_reading_ends_short_does_not_matter() -> None:
    body = STREAM[: MIB + 5]
    oid = git_oid(ObjectFormat.SHA1, b"blob %d\0" % len(body) + body)
    dribble = reader_of(body)
    mapper = Repository().mapper
    short = mapper.map_blob(oid, NodeKind.REGULAR, len(body), lambda size: dribble(min(size, 100_003)))
    assert short == mapper.map_blob(oid, NodeKind.REGULAR, len(body), reader_of(body))


@pytest.mark.parametrize("profile", ["unixfs-v1-2025", "cdc-1"])
def test_64_mib_stream_through_in_bounded_memory(profile: str) -> None:
    size = 64 * MIB
    piece = bytes(MIB)
    digest = ObjectFormat.SHA256.hasher()
    digest.update(b"blob %d\0" % size)
    for _ in range(64):
        digest.update(piece)
    left = size

    def read(count: int) -> bytes:
        nonlocal left
        count = min(count, left, MIB)
        left -= count
        return piece[:count] if count < MIB else bytes(MIB)

    mapper = Mapper(ObjectFormat.SHA256, profile, DiscardingWriter(), lambda *_: pytest.fail("a blob leads nowhere"))
    tracemalloc.start()
    try:
        mapper.map_blob(ObjectId(digest.digest()), NodeKind.REGULAR, size, read)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * MIB


def test_64_mib_come_back_in_pieces() -> None:
    repository = Repository()
    body = bytes(32 * MIB) + b"x" * 32 * MIB
    oid = repository.blob(body)
    mapped = repository.map(oid, NodeKind.EXECUTABLE)
    opened = open_object(repository.store, mapped.cid, oid, ObjectFormat.SHA1)
    digest = ObjectFormat.SHA1.hasher()
    digest.update(b"blob %d\0" % opened.size)
    while piece := opened.read(MIB):
        digest.update(piece)
    assert digest.digest() == oid.raw


def test_a_blob_changed_in_the_store_is_noticed_at_its_end() -> None:
    repository = Repository()
    oid = repository.blob(STREAM)
    mapped = repository.map(oid, NodeKind.REGULAR)
    leaf = dag_pb.decode(repository.store.get(mapped.cid)).links[1].cid
    repository.store.blocks[leaf] = bytes(MIB)
    opened = open_object(repository.store, mapped.cid, oid, ObjectFormat.SHA1)
    with pytest.raises(IntegrityError, match="is damaged"):
        opened.body()


def test_unknown_profiles_and_chunks_over_1_mib_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProfileError, match="unknown profile 'nope'") as caught:
        Repository(profile="nope")
    assert "unixfs-v1-2025" in (caught.value.hint or "")
    monkeypatch.setitem(PROFILES, "wide", PROFILES["cdc-1"].__class__(1, True, "size-2096896", 174, "block"))
    with pytest.raises(ProfileError, match="more than 1 MiB"):
        Repository(profile="wide")


def test_an_opened_object_gives_its_payload_with_the_store_as_reader() -> None:
    store = MemoryBlocks()
    repository = Repository(ObjectFormat.SHA256, store=store)
    oid = repository.blob(b"hello\n")
    mapped = repository.map(oid, NodeKind.SYMLINK)
    assert open_object(store, mapped.cid, oid, ObjectFormat.SHA256).payload() == b"blob 6\0hello\n"
