"""Commits and tags: links, people, large payloads, and headers that do not parse."""

import pytest

from ipvcs.multiformats import codecs
from ipvcs.objects import dag_pb
from ipvcs.objects.commit import commit_of, decode_object_data
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.commit import MAX_PARENTS
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.modes import KIND_OF_TYPE, NodeKind
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.git.payload import GitType
from ipvcs.objects.tag import tag_of
from tests.unit.objects.git.naive_mapping import NaiveMapping, map_object
from tests.unit.objects.git.repository import PEOPLE, Repository

KIB, MIB = 1024, 1024 * 1024


def mapped_as_documented(repository: Repository, oid: ObjectId, kind: NodeKind) -> Mapped:
    """Round-trip an object; the naive mapping must have the same blocks."""
    mapped = repository.round_trip(oid, kind)
    oracle = NaiveMapping()
    payloads = {each.raw: payload for each, payload in repository.payloads.items()}
    assert map_object(oracle, payloads, oid.raw, str(kind)) == (mapped.cid.raw, mapped.size)
    assert {cid.raw: data for cid, data in repository.store.blocks.items()} == oracle.blocks
    return mapped


def names_of(repository: Repository, mapped: Mapped) -> list[bytes]:
    return [link.name or b"" for link in dag_pb.decode(repository.store.get(mapped.cid)).links]


@pytest.mark.parametrize("object_format", ObjectFormat)
def test_a_commit_links_its_tree_its_parents_and_its_people(object_format: ObjectFormat) -> None:
    repository = Repository(object_format)
    tree = repository.tree([])
    parents = [repository.commit(tree, rest=PEOPLE + b"\n%d" % n) for n in range(11)]
    oid = repository.commit(tree, *parents, parents[0])
    mapped = mapped_as_documented(repository, oid, NodeKind.COMMIT)
    commit = commit_of(dag_pb.decode(repository.store.get(mapped.cid)))
    expected = [repository.memo[parent, NodeKind.COMMIT].cid for parent in (*parents, parents[0])]
    assert [parent.cid for parent in commit.parents] == expected
    assert commit.payload == repository.payloads[oid]
    assert commit.author is not None
    assert commit.author.cid.digest == b"A U Thor <a@example.com>"
    assert names_of(repository, mapped)[:5] == [b"author", b"committer", b"object", b"parent", b"parent10"]


def test_the_size_of_a_commit_never_counts_its_history() -> None:
    repository = Repository()
    tree = repository.tree([(b"100644", b"a", repository.blob(b"x" * 1000))])
    first = repository.commit(tree)
    sizes = {repository.map(first, NodeKind.COMMIT).size}
    commit = first
    for _ in range(60):
        commit = repository.commit(tree, commit, commit)  # counted, this would double each time
        sizes.add(repository.round_trip(commit, NodeKind.COMMIT).size)
    assert max(sizes) - min(sizes) < 300
    block = len(repository.store.get(repository.memo[commit, NodeKind.COMMIT].cid))
    people = len(b"A U Thor <a@example.com>") + len(b"C O Mitter <c@example.com>")
    assert max(sizes) == block + repository.memo[tree, NodeKind.DIRECTORY].size + people


@pytest.mark.parametrize(("padding", "is_inline"), [(0, True), (1, False)])
@pytest.mark.parametrize("git_type", [GitType.COMMIT, GitType.TAG])
def test_a_payload_over_256_kib_is_behind_a_link(git_type: GitType, padding: int, is_inline: bool) -> None:
    repository = Repository()
    tree = repository.tree([])
    if git_type is GitType.COMMIT:
        start = len(repository.payloads[repository.commit(tree, rest=PEOPLE + b"\n")]) + len("262000") - len("158")
        oid = repository.commit(tree, rest=PEOPLE + b"\n" + b"m" * (256 * KIB - start + padding))
    else:
        start = len(repository.payloads[repository.tag(tree, GitType.TREE, b"\n")]) + len("262000") - len("70")
        oid = repository.tag(tree, GitType.TREE, b"\n" + b"m" * (256 * KIB - start + padding))
    assert len(repository.payloads[oid]) == 256 * KIB + padding
    mapped = mapped_as_documented(repository, oid, NodeKind(git_type))
    node = dag_pb.decode(repository.store.get(mapped.cid))
    assert (decode_object_data(node.data or b"").payload is not None) is is_inline
    assert (b"payload" in names_of(repository, mapped)) is not is_inline


@pytest.mark.parametrize("message", [3 * MIB, 256 * KIB, 0])
def test_a_message_of_any_length_comes_back(message: int) -> None:
    repository = Repository()
    oid = repository.commit(repository.tree([]), rest=PEOPLE + b"\n" + b"long\n" * (message // 5))
    mapped_as_documented(repository, oid, NodeKind.COMMIT)
    mapped_as_documented(repository, repository.tag(oid, GitType.COMMIT, b"\n" + b"m" * message), NodeKind.TAG)


SIGNED = PEOPLE + b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n iQ\xff\n -----END PGP SIGNATURE-----\n\nsigned\n"
MERGETAG = PEOPLE + b"mergetag object " + b"1" * 40 + b"\n type commit\n tag v1\n tagger A <a>\n\nmerge\n"
REST = [
    SIGNED,
    MERGETAG,
    b"author \xc5\xe9 <\xe9@x> 1 +0000\ncommitter \xff <> 2 +0000\nencoding ISO-8859-1\n\n\xe9t\xe9\n",
    b"author no brackets 1 +0000\ncommitter <> 0\n\n",
    b"author A <a> <b> 1 +0000\n",
    b"x-unknown y\nauthor A <a>",
    b"\n",
    b"x",
    b"author " + b"n" * 58 + b" <>\n",  # 61
    b"author " + b"n" * 61 + b" <>\n",  # 64 bytes: inline
    b"author " + b"n" * 62 + b" <>\n",  # 65: a block
    b"author " + b"n" * MIB + b" <>\n",  # a list
    b"committer " + b"n" * (MIB - 3) + b" <>\n",  # exactly one piece
    PEOPLE + b"\0\0binary\0",
]


@pytest.mark.parametrize("rest", REST, ids=range(len(REST)))
def test_whatever_follows_the_parents_comes_back(rest: bytes) -> None:
    repository = Repository()
    mapped_as_documented(repository, repository.commit(repository.tree([]), rest=rest), NodeKind.COMMIT)


@pytest.mark.parametrize("body", [b"", b"garbage", b"tree \n", b"tree " + b"1" * 40 + b"\n", b"m" * MIB])
@pytest.mark.parametrize("git_type", [GitType.COMMIT, GitType.TAG])
def test_what_does_not_parse_is_its_payload_alone(git_type: GitType, body: bytes) -> None:
    repository = Repository()
    mapped = mapped_as_documented(repository, repository.add(git_type, body), NodeKind(git_type))
    assert names_of(repository, mapped) == ([] if len(body) < MIB else [b"payload"])


def test_a_tag_leads_to_an_object_of_any_type() -> None:
    repository = Repository()
    blob, tree = repository.blob(b"x"), repository.tree([])
    commit = repository.commit(tree)
    targets = [(blob, GitType.BLOB), (tree, GitType.TREE), (commit, GitType.COMMIT)]
    targets.append((repository.tag(commit, GitType.COMMIT), GitType.TAG))
    for target, git_type in targets:
        mapped = repository.round_trip(repository.tag(target, git_type), NodeKind.TAG)
        tag = tag_of(dag_pb.decode(repository.store.get(mapped.cid)))
        assert tag.object is not None
        assert tag.object.cid == repository.memo[target, KIND_OF_TYPE[git_type]].cid
        assert tag.tagger is not None


@pytest.mark.parametrize(
    "rest", [b"", b"\n", b"\nmessage", b"tagger nobody\n\n", b"tagger T <t>", b"x\ntagger T <t>\n"]
)
def test_a_tag_needs_no_tagger(rest: bytes) -> None:
    repository = Repository()
    mapped_as_documented(repository, repository.tag(repository.tree([]), GitType.TREE, rest), NodeKind.TAG)


def test_a_target_of_another_type_than_stated_is_carried_verbatim() -> None:
    repository = Repository()
    blob, tree = repository.blob(b"x"), repository.tree([])
    commit = repository.commit(tree)
    wrong = [repository.commit(blob), repository.commit(tree, tree, commit), repository.commit(commit)]
    for oid in wrong:
        repository.round_trip(oid, NodeKind.COMMIT)
    link = commit_of(dag_pb.decode(repository.store.get(repository.memo[wrong[2], NodeKind.COMMIT].cid))).object
    assert link is not None
    assert FileReader(repository.store, link.cid).read() == repository.payloads[commit]
    for target, git_type in ((tree, GitType.COMMIT), (commit, GitType.BLOB), (blob, GitType.TAG)):
        repository.round_trip(repository.tag(target, git_type), NodeKind.TAG)


@pytest.mark.parametrize("count", [MAX_PARENTS, pytest.param(2 * MAX_PARENTS + 1, marks=pytest.mark.long)])
def test_no_number_of_parents_makes_a_block_too_large(count: int) -> None:
    repository = Repository()
    tree = repository.tree([])
    parent = repository.commit(tree)
    mapped = repository.round_trip(repository.commit(tree, *[parent] * count), NodeKind.COMMIT)
    names = names_of(repository, mapped)
    pages = [b"parents", b"parents2", b"parents3"] if count > MAX_PARENTS else []
    assert [name for name in names if name.startswith(b"parents")] == pages
    assert max(len(data) for data in repository.store.blocks.values()) <= MIB
    assert mapped.size < 2 * MIB


def test_a_page_of_parents_is_no_unixfs_and_counts_only_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("commit", "check"):
        monkeypatch.setattr(f"ipvcs.objects.git.{module}.MAX_PARENTS", 4)
    repository = Repository()
    tree = repository.tree([])
    parents = [repository.commit(tree, rest=PEOPLE + b"\n%d" % n) for n in range(9)]
    mapped = repository.round_trip(repository.commit(tree, *parents), NodeKind.COMMIT)
    pages = [link for link in dag_pb.decode(repository.store.get(mapped.cid)).links if b"parents" in (link.name or b"")]
    assert [link.name for link in pages] == [b"parents", b"parents2", b"parents3"]
    page = dag_pb.decode(repository.store.get(pages[1].cid))
    assert pages[1].cid.codec == codecs.DAG_PB
    assert pages[1].size == len(repository.store.get(pages[1].cid))
    assert page.data == b"\x88\x01\x01"
    assert [link.name for link in page.links] == [b"parent5", b"parent6", b"parent7", b"parent8"]
