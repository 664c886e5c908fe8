"""The table of commits: every row is found, and no other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.git_bridge import commits_table
from ipvcs.git_bridge.commits_table import (
    MAX_LINK_SIZE,
    CommitsTable,
    CommitsTableError,
    CommitsTableTooLargeError,
    encode_commits,
    read_commits,
)
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.git.layout import put_file
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from tests.fakes.memory_blocks import MemoryBlocks

cids = st.binary(min_size=32, max_size=32).map(lambda digest: Cid.make(b"\x12\x20" + digest, codecs.DAG_PB))


def rows(width: int) -> st.SearchStrategy[dict[ObjectId, tuple[Cid, int]]]:
    oids = st.binary(min_size=width, max_size=width).filter(any).map(ObjectId)
    return st.dictionaries(oids, st.tuples(cids, st.integers(0, MAX_LINK_SIZE)), max_size=40)


@pytest.mark.parametrize("object_format", ObjectFormat)
@given(data=st.data())
def test_every_row_is_found_and_no_other(object_format: ObjectFormat, data: st.DataObject) -> None:
    found = data.draw(rows(object_format.size))
    table = CommitsTable(encode_commits((oid, *row) for oid, row in found.items()), object_format)
    assert len(table) == len(found)
    assert [oid for oid, _cid, _size in table] == sorted(found)
    for oid, row in found.items():
        assert table.find(oid) == row
    other = data.draw(st.binary(min_size=object_format.size, max_size=object_format.size).map(ObjectId))
    assert table.find(other) == found.get(other)


def test_the_format_is_what_it_says() -> None:
    cid = Cid.make(b"\x12\x20" + b"d" * 32, codecs.DAG_PB)
    written = encode_commits([(ObjectId(b"b" * 20), cid, 258), (ObjectId(b"a" * 20), cid, 0)])
    assert (
        written == b"ipvcs commits 1\n" + b"a" * 20 + b"d" * 32 + bytes(8) + b"b" * 20 + b"d" * 32 + b"\0\0\0\0\0\0\1\2"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ipvcs commits 2\n",
        b"ipvcs commits 1\n" + bytes(59),
        b"ipvcs commits 1\n" + bytes(60),
        b"ipvcs commits 1\n" + b"b" * 60 + b"a" * 60,
        b"ipvcs commits 1\n" + b"a" * 60 + b"a" * 60,
    ],
)
def test_a_malformed_table_is_refused(data: bytes) -> None:
    # An id of zeros is Git's word for "no object", so no record has it.
    with pytest.raises(CommitsTableError):
        CommitsTable(data, ObjectFormat.SHA1)


def test_a_file_that_claims_too_much_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryBlocks()
    data = encode_commits([(ObjectId(b"a" * 20), Cid.make(b"\x12\x20" + b"d" * 32, codecs.DAG_PB), 1)])
    cid = put_file(data, store).cid
    assert len(read_commits(store, cid, ObjectFormat.SHA1)) == 1
    monkeypatch.setattr(commits_table, "MAX_SIZE", len(data) - 1)
    with pytest.raises(CommitsTableTooLargeError, match="are the most"):
        read_commits(store, cid, ObjectFormat.SHA1)
