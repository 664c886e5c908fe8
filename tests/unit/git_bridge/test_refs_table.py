"""The table of refs: what goes in comes back, and nothing malformed does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError
from ipvcs.git_bridge.refname import RefName, RefNameError
from ipvcs.git_bridge.refs_table import Ref, RefsTableError, decode_refs, encode_refs
from ipvcs.objects.block import Block
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId

OID = ObjectId(b"\x12" * 20)
CID = Block.of(b"node").cid
LINE = b"%b %b " % (OID.hex.encode(), str(CID).encode())

names = st.binary(min_size=1, max_size=8).map(lambda tail: RefName(b"refs/heads/x" + tail.hex().encode()))
refs = st.dictionaries(
    names | st.just(RefName(b"refs/heads/\xff")),
    st.builds(Ref, st.binary(min_size=20, max_size=20).map(ObjectId), st.just(CID)),
)


@given(refs)
def test_refs_come_back_in_order(found: dict[RefName, Ref]) -> None:
    decoded = decode_refs(encode_refs(found), ObjectFormat.SHA1)
    assert decoded == found
    assert list(decoded) == sorted(found)


def test_the_format_is_what_it_says() -> None:
    assert encode_refs({RefName(b"refs/tags/b"): Ref(OID, CID), RefName(b"refs/heads/a"): Ref(OID, CID)}) == (
        LINE + b"refs/heads/a\n" + LINE + b"refs/tags/b\n"
    )


@pytest.mark.parametrize(
    "data",
    [
        LINE + b"refs/heads/a",
        b"\n",
        b"x\n",
        LINE + b"refs/heads/b\n" + LINE + b"refs/heads/a\n",
        LINE + b"refs/heads/a\n" + LINE + b"refs/heads/a\n",
        b"12" * 32 + LINE[40:] + b"refs/heads/a\n",
    ],
)
def test_a_malformed_table_is_refused(data: bytes) -> None:
    with pytest.raises(RefsTableError):
        decode_refs(data, ObjectFormat.SHA1)


@pytest.mark.parametrize("name", [b"refs/heads/../../config", b"HEAD", b"refs/heads/a\rb", b"refs/heads/a b"])
def test_a_name_that_git_refuses_is_refused(name: bytes) -> None:
    with pytest.raises(RefNameError):
        decode_refs(LINE + name + b"\n", ObjectFormat.SHA1)


@given(st.binary(max_size=200))
def test_garbage_raises_only_our_errors(data: bytes) -> None:
    try:
        decode_refs(data, ObjectFormat.SHA1)
    except DecodeError:
        pass
    else:
        assert data == b""
