"""Remembered links make the trees that `build_tree` makes, however few of them are kept, and leave it the odd ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.git.entry_links import EntryLinks
from ipvcs.objects.git.layout import Mapped, put_file
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectFormat
from ipvcs.objects.git.payload import GitType, make_payload
from ipvcs.objects.git.tree import ParsedTree, build_tree
from ipvcs.objects.git.tree_entries import TreeEntry, TreeParseError, parse_tree
from tests.fakes.memory_blocks import MemoryBlocks

MODES = [b"100644", b"100755", b"40000", b"120000", b"160000", b"0100664"]
entries = st.tuples(
    st.sampled_from(MODES), st.sampled_from([b"a", b"a.c", b"b", b"\xc3\xa9", b".git", b"\xff"]), st.integers(0, 3)
)


def body_of(drawn: list[tuple[bytes, bytes, int]], size: int = 20) -> bytes:
    return b"".join(b"%b %b\0%b" % (mode, name, bytes([number]) * size) for mode, name, number in drawn)


def target_of(entry: TreeEntry) -> Mapped | None:
    """What an entry leads to: another thing for each id and kind."""
    kind = entry.kind
    if kind is None:
        return None
    built = put_file(entry.oid.raw + kind.encode(), MemoryBlocks())
    return Mapped(built.cid, built.size, kind)


def is_odd(body: bytes) -> bool:
    return ParsedTree.of(body, ObjectFormat.SHA1).opaque is not None


@given(trees=st.lists(st.lists(entries, max_size=5), max_size=6), generation=st.integers(1, 9))
def test_trees_are_those_that_are_built_entry_by_entry(
    trees: list[list[tuple[bytes, bytes, int]]], generation: int
) -> None:
    links = EntryLinks(ObjectFormat.SHA1, generation)
    for drawn in trees:
        body = body_of(drawn)
        payload = make_payload(GitType.TREE, body)
        parsed = ParsedTree.of(body, ObjectFormat.SHA1)
        written = links.split(body)
        assert written is not None
        assert b"".join(written) == body
        expected, store = MemoryBlocks(), MemoryBlocks()
        old = links._old
        built = links.try_build(written, payload, target_of, store)
        if built is None:
            assert is_odd(body) or links._old is not old, "no link of it was forgotten meanwhile"
            assert not store.blocks
        else:
            assert built == build_tree(parsed, payload, [target_of(each) for each in parsed.entries], expected)
            assert store.blocks == expected.blocks


@pytest.mark.parametrize("piece", [b"0", b"0 ", b"0 \0", b"100644 a", b"100644 a\0"])
def test_what_is_no_tree_is_found_out_in_one_pass(piece: bytes) -> None:
    """Looked for at every byte, entries of two megabytes would take hours."""
    body = piece * (2_000_000 // len(piece))
    assert EntryLinks(ObjectFormat.SHA1).split(body + b"\1") is None


def test_long_entries_are_forgotten_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    links = EntryLinks(ObjectFormat.SHA1, generation=100)
    for number in range(50):
        entry = body_of([(b"100644", b"%02d" % number * 5000, 1)])
        links.try_build([entry], make_payload(GitType.TREE, entry), target_of, MemoryBlocks())
    kept = links.unknown([entry])
    assert kept == []
    assert len(links._young) + len(links._old) <= 6


def test_an_entry_that_was_linked_is_not_asked_for_again() -> None:
    links = EntryLinks(ObjectFormat.SHA256, 4)
    asked: list[bytes] = []

    def lookup(entry: TreeEntry) -> Mapped | None:
        asked.append(entry.name)
        return target_of(entry)

    for drawn in ([(b"100644", b"a", 1), (b"160000", b"b", 2)], [(b"100644", b"a", 1), (b"100644", b"c", 1)]) * 2:
        body = body_of(drawn, 32)
        written = links.split(body)
        assert written is not None
        unknown = [parse_tree(each, ObjectFormat.SHA256)[0].name for each in links.unknown(written)]
        before = len(asked)
        assert links.try_build(written, make_payload(GitType.TREE, body), lookup, MemoryBlocks()) is not None
        assert asked[before:] == unknown
    assert asked == [b"a", b"b", b"c"]


@given(
    drawn=st.lists(entries, max_size=3),
    junk=st.binary(max_size=30) | st.sampled_from([b"100644 a", b"100648 a\0" + bytes(20), b" a\0" + bytes(20)]),
    at=st.sampled_from(["start", "end"]),
)
def test_what_parses_is_split_and_nothing_else(drawn: list[tuple[bytes, bytes, int]], junk: bytes, at: str) -> None:
    body = junk + body_of(drawn) if at == "start" else body_of(drawn) + junk
    written = EntryLinks(ObjectFormat.SHA1).split(body)
    try:
        parsed = parse_tree(body, ObjectFormat.SHA1)
    except TreeParseError:
        assert written is None
    else:
        assert written == [b"%b %b\0%b" % (each.mode_bytes, each.name, each.oid.raw) for each in parsed]


def test_a_child_of_another_type_than_its_mode_says_makes_the_tree_one_for_others() -> None:
    links = EntryLinks(ObjectFormat.SHA1)
    body = body_of([(b"100644", b"a", 1)])
    verbatim = Mapped(put_file(b"x", MemoryBlocks()).cid, 1, NodeKind.VERBATIM)
    assert links.try_build([body], make_payload(GitType.TREE, body), lambda _entry: verbatim, MemoryBlocks()) is None
    assert links.unknown([body]) == [body]
