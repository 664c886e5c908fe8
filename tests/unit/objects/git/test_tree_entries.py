import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.git.tree_entries import TreeEntry, TreeParseError, opaque_reason, parse_tree

MODES = st.sampled_from(
    [b"100644", b"100755", b"40000", b"040000", b"120000", b"160000", b"0", b"100664", b"0000170000"]
)
NAMES = st.binary(max_size=12).map(lambda name: name.replace(b"\0", b""))


def entries_of(object_format: ObjectFormat) -> st.SearchStrategy[list[tuple[bytes, bytes, bytes]]]:
    size = object_format.size
    return st.lists(st.tuples(MODES, NAMES, st.binary(min_size=size, max_size=size)), max_size=6)


@pytest.mark.parametrize("object_format", ObjectFormat)
@given(data=st.data())
def test_entries_come_back_as_they_were_written(object_format: ObjectFormat, data: st.DataObject) -> None:
    written = data.draw(entries_of(object_format))
    body = b"".join(b"%b %b\0%b" % entry for entry in written)
    parsed = parse_tree(body, object_format)
    assert [(entry.mode_bytes, entry.name, entry.oid.raw) for entry in parsed] == written


@pytest.mark.parametrize("object_format", ObjectFormat)
@given(data=st.data())
def test_a_cut_tree_keeps_the_entries_before_the_cut(object_format: ObjectFormat, data: st.DataObject) -> None:
    written = data.draw(entries_of(object_format).filter(bool))
    body = b"".join(b"%b %b\0%b" % entry for entry in written)
    last = len(b"%b %b\0%b" % written[-1])
    cut = data.draw(st.integers(1, last - 1))
    with pytest.raises(TreeParseError) as caught:
        parse_tree(body[:-cut], object_format)
    assert [entry.oid.raw for entry in caught.value.entries] == [oid for _, _, oid in written[:-1]]
    assert caught.value.offset == len(body) - last


@given(st.binary(max_size=80), st.sampled_from(ObjectFormat))
def test_garbage_raises_only_tree_parse_error(body: bytes, object_format: ObjectFormat) -> None:
    end = len(body)
    try:
        entries = parse_tree(body, object_format)
    except TreeParseError as exc:
        entries, end = exc.entries, exc.offset
    assert b"".join(b"%b %b\0%b" % (e.mode_bytes, e.name, e.oid.raw) for e in entries) == body[:end]


def test_the_first_space_ends_the_mode_and_further_ones_are_the_name() -> None:
    (entry,) = parse_tree(b"100644  a b\0" + bytes(20), ObjectFormat.SHA1)
    assert entry.name == b" a b"
    assert entry.kind is NodeKind.REGULAR


def entry(name: bytes) -> TreeEntry:
    return TreeEntry(b"100644", 0o100644, name, ObjectId(bytes(20)))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([b""], "an empty name"),
        ([b"."], "reserved"),
        ([b".."], "reserved"),
        ([b".git"], "reserved"),
        ([b".GiT"], "reserved"),
        ([b".ipvcs-tree"], "reserved"),
        ([b"a/b"], "contains a slash"),
        ([b"/"], "contains a slash"),
        ([b"\xff"], "not UTF-8"),
        ([b"\xed\xa0\x80"], "not UTF-8"),  # a surrogate
        ([b"\xc0\xaf"], "not UTF-8"),  # an overlong slash
        ([b"a", b"b", b"a"], "two entries have the name 'a'"),
    ],
)
def test_a_name_that_no_directory_can_show_makes_a_tree_opaque(names: list[bytes], reason: str) -> None:
    assert reason in (opaque_reason([entry(name) for name in names]) or "")


@pytest.mark.parametrize(
    "names",
    [[], [b"b", b"a"], [b"..."], [b".gitignore"], [b"git"], [b".IPVCS-TREE"], [b"\xc3\xa9"], [b"a\nb"], [b" "],
     [b"\x01"], [b".git "], [b"git~1"], [b".g\xe2\x80\x8cit"], [b"\\"]],
)  # fmt: skip
def test_names_that_git_and_utf8_allow_do_not(names: list[bytes]) -> None:
    assert opaque_reason([entry(name) for name in names]) is None
