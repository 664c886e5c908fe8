import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IpvcsError, LimitError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid, CidError
from ipvcs.objects import dag_cbor, dag_json, unixfs
from ipvcs.objects.blob import FileNodeError
from ipvcs.objects.block import Block, BlockNotFoundError
from ipvcs.objects.commit import CommitObject, encode_commit
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.data_model import Value
from ipvcs.objects.directory import build_sharded_directory
from ipvcs.objects.path import (
    MAX_COMPONENTS,
    MAX_NESTED_OBJECTS,
    NameNotResolvedError,
    Path,
    PathError,
    PathSyntaxError,
    Resolved,
    parse_path,
    resolve,
)
from ipvcs.objects.profile import UNIXFS_V1_2025
from ipvcs.objects.tag import TagObject, encode_tag
from ipvcs.objects.unixfs import DataType, UnixfsData
from tests.unit.objects.dags import Blocks, inline

ROOT = Block.of(b"root").cid

names = st.binary(min_size=1, max_size=8).filter(lambda name: b"/" not in name and b"\0" not in name)


def go(blocks: Blocks, root: Cid, tail: str = "") -> Resolved:
    return resolve(blocks, parse_path(f"/ipfs/{root}{tail}"))


def add_cbor(blocks: Blocks, value: Value) -> Cid:
    return blocks.add(dag_cbor.encode(value), codecs.DAG_CBOR)


def add_commit(blocks: Blocks, target: Cid | None, *parents: Cid) -> Cid:
    link = None if target is None else PBLink(target)
    commit = CommitObject(link, tuple(map(PBLink, parents)), author=PBLink(inline(b"A <a@b>")), payload=b"")
    return blocks.add(encode_commit(commit), codecs.DAG_PB)


@pytest.mark.parametrize(
    ("text", "components"),
    [
        (f"/ipfs/{ROOT}", ()),
        (f"/ipfs/{ROOT}/", ()),
        (f"{ROOT}/a/b", (b"a", b"b")),
        (f"/ipfs/{ROOT}//a///b/", (b"a", b"b")),
        (f"/ipfs/{ROOT}/a%20b/%2F/ä", (b"a%20b", b"%2F", "ä".encode())),
        (f"/ipfs/{ROOT}/./../x", (b".", b"..", b"x")),
        (f"/ipfs/{ROOT}/\udcff", (b"\xff",)),
    ],
)
def test_a_path_is_a_cid_and_names(text: str, components: tuple[bytes, ...]) -> None:
    assert parse_path(text) == Path("ipfs", ROOT, components)


@given(st.lists(names, max_size=5))
def test_a_path_parses_to_what_was_written(components: list[bytes]) -> None:
    path = Path("ipfs", ROOT, tuple(components))
    assert parse_path(str(path)) == path


def test_a_name_is_kept_for_later_and_refused_now() -> None:
    path = parse_path("/ipns/example.org/a")
    assert path == Path("ipns", "example.org", (b"a",))
    with pytest.raises(NameNotResolvedError, match=r"cannot resolve '/ipns/example\.org'"):
        resolve(Blocks(), path)


@pytest.mark.parametrize("text", ["", "/", "/ipfs", "/ipfs/", "/ipns//", f"/ipld/{ROOT}", f"/{ROOT}", "\ud800/a"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises((PathSyntaxError, CidError)):
        parse_path(text)
    with pytest.raises(PathSyntaxError):
        parse_path(f"{ROOT}/\ud800")


def test_a_wrong_cid_is_named() -> None:
    with pytest.raises(CidError, match="bafybogus"):
        parse_path("/ipfs/bafybogus/a")


@given(st.text(max_size=60))
def test_any_text_is_a_path_or_one_of_our_errors(text: str) -> None:
    try:
        path = parse_path(text)
    except IpvcsError:
        return
    assert parse_path(str(path)) == path


def test_directories_are_followed_by_name() -> None:
    blocks = Blocks()
    leaf = blocks.add(b"leaf")
    inner = blocks.add_directory(leaf=leaf)
    root = blocks.add_directory(inner=inner)
    assert go(blocks, root, "/inner/leaf") == Resolved(leaf, link=PBLink(leaf, b"leaf", 1))
    assert go(blocks, root) == Resolved(root)
    assert leaf not in blocks.gets  # the last block is the caller's to read


@given(st.lists(names, min_size=1, max_size=40, unique=True), st.data())
def test_sharded_directories_are_followed_by_name(entries: list[bytes], data: st.DataObject) -> None:
    blocks = Blocks()
    links = [PBLink(blocks.add(name), name, 1) for name in entries]
    root = build_sharded_directory(links, UNIXFS_V1_2025, blocks).cid
    name = data.draw(st.sampled_from(entries))
    found = resolve(blocks, Path("ipfs", root, (name,)))
    assert (found.cid, found.link) == (blocks.add(name), PBLink(blocks.add(name), name, 1))
    with pytest.raises(PathError):
        resolve(blocks, Path("ipfs", root, (name + b"~" * 9,)))


def test_the_error_says_which_component_failed_and_where() -> None:
    blocks = Blocks()
    inner = blocks.add_directory()
    root = blocks.add_directory(inner=inner)
    with pytest.raises(PathError) as caught:
        go(blocks, root, "/inner/missing/deeper")
    error = caught.value
    assert str(error) == f"no link named 'missing' under '/ipfs/{root}/inner'"
    assert (error.cid, error.component, str(error.prefix)) == (inner, b"missing", f"/ipfs/{root}/inner")


def test_a_path_goes_no_further_than_a_file_or_symlink() -> None:
    blocks = Blocks()
    symlink = blocks.add_node((), unixfs.encode(UnixfsData(DataType.SYMLINK, b"dir")))
    metadata = blocks.add_node((), unixfs.encode(UnixfsData(DataType.METADATA, b"")))
    root = blocks.add_directory(blob=blocks.add(b"x"), file=blocks.add_file([], b"x"), symlink=symlink, meta=metadata)
    for name, hint in [
        ("blob", "a blob has no links"),
        ("file", "is a file, not a directory"),
        ("symlink", "is a symlink, which paths do not follow"),
        ("meta", "is not a directory"),
    ]:
        with pytest.raises(PathError, match=f"no link named 'a' under '/ipfs/{root}/{name}'") as caught:
            go(blocks, root, f"/{name}/a")
        assert hint in (caught.value.hint or "")
    assert go(blocks, root, "/symlink").cid == symlink


def test_parts_of_a_list_are_followed_by_index() -> None:
    blocks = Blocks()
    leaves = [blocks.add(b"%02d" % number) for number in range(12)]
    root = blocks.add_file([(leaf, 2) for leaf in leaves])
    outer = blocks.add_file([(root, 24), (leaves[0], 2)])
    assert go(blocks, outer, "/0/11").cid == leaves[11]
    for bad in ("12", "-1", "01", "+1", "x", "1" * 5000, "\u0661"):
        with pytest.raises(PathError, match="no link named") as caught:
            go(blocks, root, f"/{bad}")
        assert "its children are 0 to 11" in (caught.value.hint or "")


def test_a_list_that_contradicts_itself_is_refused() -> None:
    blocks = Blocks()
    with pytest.raises(FileNodeError):
        go(blocks, blocks.add_file([(blocks.add(b"x"), 1)], blocksizes=(), filesize=0), "/0")


def test_other_dag_pb_nodes_are_followed_by_link_name() -> None:
    blocks = Blocks()
    first, second = blocks.add(b"1"), blocks.add(b"2")
    links = [PBLink(second, None), PBLink(first, b"x"), PBLink(second, b"x")]
    for data in (None, b"", b"no unixfs"):
        root = blocks.add_node(links, data)
        assert go(blocks, root, "/x").cid == first
        with pytest.raises(PathError):
            go(blocks, root, "/y")


def test_a_path_that_ends_at_a_commit_names_the_commit() -> None:
    blocks = Blocks()
    commit = add_commit(blocks, blocks.add_directory())
    assert go(blocks, commit).cid == commit
    assert go(blocks, add_commit(blocks, None, commit), "/parent").cid == commit


def test_a_component_after_a_commit_is_a_link_first_and_a_path_in_its_object_else() -> None:
    blocks = Blocks()
    readme, shadowed = blocks.add(b"readme"), blocks.add(b"a file called parent")
    tree = blocks.add_directory(README=readme, parent=shadowed)
    first = add_commit(blocks, tree)
    second = add_commit(blocks, tree, first, first)
    assert go(blocks, second, "/object").cid == tree
    assert go(blocks, second, "/object/README").cid == readme
    assert go(blocks, second, "/README").cid == readme
    assert go(blocks, second, "/parent2").cid == first
    assert go(blocks, second, "/parent/parent").cid == shadowed  # the first commit has no parents
    assert go(blocks, second, "/object/parent").cid == shadowed
    assert go(blocks, second, "/author").cid == inline(b"A <a@b>")
    assert go(blocks, second, "/parent/README").cid == readme
    with pytest.raises(PathError, match=f"no link named 'none' under '/ipfs/{second}/parent'"):
        go(blocks, second, "/parent/none")


def test_a_tag_leads_on_to_what_it_names() -> None:
    blocks = Blocks()
    readme = blocks.add(b"readme")
    commit = add_commit(blocks, blocks.add_directory(README=readme))
    tag = blocks.add(encode_tag(TagObject(PBLink(commit), payload=b"")), codecs.DAG_PB)
    outer = blocks.add(encode_tag(TagObject(PBLink(tag), payload=b"")), codecs.DAG_PB)
    assert go(blocks, outer).cid == outer
    assert go(blocks, outer, "/README").cid == readme
    assert go(blocks, outer, "/author").cid == inline(b"A <a@b>")


def test_a_commit_without_object_has_only_its_links() -> None:
    blocks = Blocks()
    with pytest.raises(PathError, match="no link named 'README'"):
        go(blocks, add_commit(blocks, None), "/README")


def test_endless_tags_are_given_up() -> None:
    blocks = Blocks()
    leaf = blocks.add(b"leaf")
    cid = blocks.add_directory(leaf=leaf)
    for _ in range(MAX_NESTED_OBJECTS):
        cid = blocks.add(encode_tag(TagObject(PBLink(cid), payload=b"")), codecs.DAG_PB)
    assert go(blocks, cid, "/leaf").cid == leaf
    with pytest.raises(LimitError):
        go(blocks, blocks.add(encode_tag(TagObject(PBLink(cid), payload=b"")), codecs.DAG_PB), "/leaf")


def test_dag_cbor_and_dag_json_are_followed_inside_and_across_blocks() -> None:
    blocks = Blocks()
    leaf = blocks.add(b"leaf")
    directory = blocks.add_directory(leaf=leaf)
    json = blocks.add(dag_json.encode({"dir": directory, "n": [1, {"deep": "x"}]}), codecs.DAG_JSON)
    root = add_cbor(blocks, {"a": {"b": [None, json]}, "ä": 5})
    assert go(blocks, root, "/a/b/1/dir/leaf") == Resolved(leaf, link=PBLink(leaf, b"leaf", 1))
    assert go(blocks, root, "/a/b/1").cid == json
    inside = go(blocks, root, "/a/b/1/n/1/deep")
    assert (inside.cid, inside.remainder, inside.value) == (json, (b"n", b"1", b"deep"), "x")
    assert go(blocks, root, "/a/b/0").remainder == (b"a", b"b", b"0")
    assert go(blocks, root, "/ä").value == 5


@pytest.mark.parametrize(
    ("tail", "problem"),
    [
        ("/x", "no key 'x' under '/ipfs/{}'"),
        ("/a/5", "no index '5' under '/ipfs/{}/a'"),
        ("/a/x", "no index 'x' under '/ipfs/{}/a'"),
        ("/a/0/x", "no key 'x' under '/ipfs/{}/a/0'"),
        ("/\udcff", "no key '\\xff' under '/ipfs/{}'"),
    ],
)
def test_a_missing_key_or_index_inside_a_block_is_named(tail: str, problem: str) -> None:
    blocks = Blocks()
    root = add_cbor(blocks, {"a": [1]})
    with pytest.raises(PathError) as caught:
        go(blocks, root, tail)
    assert str(caught.value) == problem.format(root)
    assert caught.value.cid == root


def test_a_chain_of_blocks_that_are_nothing_but_a_link_is_given_up() -> None:
    blocks = Blocks()
    cid = blocks.add_directory(leaf=blocks.add(b"leaf"))
    for _ in range(MAX_NESTED_OBJECTS + 1):
        cid = add_cbor(blocks, cid)
    with pytest.raises(LimitError):
        go(blocks, cid, "/leaf")


def test_a_missing_block_on_the_way_is_named() -> None:
    blocks = Blocks()
    lost = blocks.add_directory(leaf=blocks.add(b"leaf"))
    root = blocks.add_directory(lost=lost)
    del blocks.blocks[lost]
    assert go(blocks, root, "/lost").cid == lost
    with pytest.raises(BlockNotFoundError) as caught:
        go(blocks, root, "/lost/leaf")
    assert caught.value.cid == lost


def test_inline_nodes_are_passed_through() -> None:
    blocks = Blocks()
    root = inline(unixfs.EMPTY_DIRECTORY.join([b"\x0a\x02", b""]), codecs.DAG_PB)
    with pytest.raises(PathError, match="no link named 'a'"):
        go(blocks, root, "/a")
    assert blocks.gets == []


def test_deep_paths_are_followed_and_endless_ones_refused() -> None:
    blocks = Blocks()
    leaf = cid = blocks.add(b"leaf")
    for _ in range(MAX_COMPONENTS):
        cid = blocks.add_directory(d=cid)
    assert go(blocks, cid, "/d" * MAX_COMPONENTS).cid == leaf
    with pytest.raises(LimitError):
        parse_path(f"{cid}" + "/d" * (MAX_COMPONENTS + 1))
    with pytest.raises(LimitError):
        resolve(blocks, Path("ipfs", cid, (b"d",) * (MAX_COMPONENTS + 1)))
