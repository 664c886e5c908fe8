import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid, CidError
from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.refs import EDGES_FORMAT, Edge, format_edge, iter_refs, links_as_edges
from ipvcs.objects.walk import MissingBlocksError
from tests.unit.objects.dags import Blocks, build, chain, shapes


def kubo_refs(blocks: Blocks, root: Cid, unique: bool, max_depth: int) -> list[Edge]:
    """Kubo's `refs` by its rules, recursive: visit(cid, depth) says whether to list and whether to go deeper."""
    seen: dict[Cid, int] = {}
    found: list[Edge] = []

    def visit(cid: Cid, depth: int) -> tuple[bool, bool]:
        if 0 <= max_depth < depth:
            return False, False
        deeper = depth != max_depth
        if not unique:
            return deeper, True
        before = seen.get(cid)
        if before is not None and (max_depth < 0 or before <= depth):
            return False, False
        seen[cid] = depth
        return deeper, before is None

    def recurse(cid: Cid, depth: int) -> None:
        for edge in links_as_edges(cid, blocks.blocks[cid]):
            deeper, listed = visit(edge.target, depth + 1)
            if listed:
                found.append(edge)
            if deeper:
                recurse(edge.target, depth + 1)

    recurse(root, 0)
    return found


@given(shapes(), st.booleans(), st.integers(-1, 5))
def test_refs_lists_what_kubo_lists(shape: list[list[int]], unique: bool, max_depth: int) -> None:
    blocks = Blocks()
    root = build(blocks, shape[:8])[-1]  # a dozen levels would have millions of paths
    found = list(iter_refs(blocks, root, recursive=True, unique=unique, max_depth=max_depth))
    assert found == kubo_refs(blocks, root, unique, max_depth)


def test_a_node_met_nearer_to_the_root_is_walked_again_and_not_listed_again() -> None:
    blocks = Blocks()
    leaf = blocks.add(b"leaf")
    low = blocks.add_node([PBLink(leaf, b"leaf")])
    high = blocks.add_node([PBLink(low, b"low")])
    root = blocks.add_node([PBLink(high, b"a"), PBLink(low, b"b")])
    found = iter_refs(blocks, root, recursive=True, unique=True, max_depth=2)
    assert [edge.name for edge in found] == [b"a", b"low", b"leaf"]


def test_without_recursion_only_the_roots_own_links_are_listed_each_time() -> None:
    blocks = Blocks()
    leaf = blocks.add(b"leaf")
    inner = blocks.add_node([PBLink(leaf)])
    root = blocks.add_node([PBLink(inner, b"a"), PBLink(leaf, b"b"), PBLink(leaf, b"c")])
    assert [edge.name for edge in iter_refs(blocks, root)] == [b"a", b"b", b"c"]
    assert [edge.name for edge in iter_refs(blocks, root, unique=True, max_depth=7)] == [b"a", b"b"]
    assert list(iter_refs(blocks, root, recursive=True, max_depth=0)) == []


def test_raw_leaves_are_not_read() -> None:
    blocks = Blocks()
    leaf = blocks.add(b"leaf")
    root = blocks.add_node([PBLink(leaf)])
    del blocks.blocks[leaf]
    assert [edge.target for edge in iter_refs(blocks, root, recursive=True)] == [leaf]
    assert blocks.gets == [root]


def test_a_missing_node_is_an_error_or_reported() -> None:
    blocks = Blocks()
    lost = blocks.add_node([PBLink(blocks.add(b"leaf"))])
    root = blocks.add_node([PBLink(lost)])
    del blocks.blocks[lost]
    with pytest.raises(MissingBlocksError) as caught:
        list(iter_refs(blocks, root, recursive=True))
    assert (caught.value.cid, caught.value.parent) == (lost, root)
    missing: list[tuple[Cid, Cid | None]] = []
    found = list(iter_refs(blocks, root, recursive=True, on_missing=lambda cid, parent: missing.append((cid, parent))))
    assert [edge.target for edge in found] == [lost]
    assert missing == [(lost, root)]


def test_links_of_other_codecs_have_no_names() -> None:
    blocks = Blocks()
    leaf = blocks.add(b"leaf")
    root = blocks.add(b"\x81\xd8\x2a\x58\x25\x00" + leaf.raw, codecs.DAG_CBOR)
    assert list(iter_refs(blocks, root)) == [Edge(root, leaf, b"")]


def test_a_deep_chain_is_listed() -> None:
    blocks = Blocks()
    root = chain(blocks, 20_000)
    assert sum(1 for _ in iter_refs(blocks, root, recursive=True, unique=True)) == 19_999


def test_an_edge_is_written_by_its_template() -> None:
    blocks = Blocks()
    source, target = blocks.add(b"a"), blocks.add(dag_pb.encode(PBNode((), unixfs.EMPTY_DIRECTORY)), codecs.DAG_PB, 0)
    edge = Edge(source, target, b"<src>\xff")
    assert format_edge(edge) == str(target)
    assert format_edge(edge, EDGES_FORMAT) == f"{source} -> {target}"
    assert format_edge(edge, "<linkname> <dst>") == f"<src>\udcff {target}"
    assert format_edge(edge, "<src>", base="base58btc") == source.encode("base58btc")
    with pytest.raises(CidError):
        format_edge(edge, "<dst>", base="base32")
