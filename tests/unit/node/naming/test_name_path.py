"""Paths as text: joined, and not changed otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError, LimitError
from ipvcs.node.naming.name_path import NamePath
from ipvcs.objects.path import MAX_COMPONENTS
from tests.unit.node.naming.records import A


@pytest.mark.parametrize(
    ("value", "rest", "joined"),
    [
        (A, "", A),
        (A, "/docs", f"{A}/docs"),
        (f"{A}/site", "/docs/a b", f"{A}/site/docs/a b"),
        (f"{A}/site/", "/docs", f"{A}/site/docs"),
        (f"{A}/site/", "", f"{A}/site/"),
        (f"{A}/site", "/", f"{A}/site/"),
        (A, "/docs/", f"{A}/docs/"),
        (A, "/\udcff", f"{A}/\udcff"),
        ("/ipns/example.com/x", "/y", "/ipns/example.com/x/y"),
    ],
)
def test_what_stands_behind_a_name_is_joined_to_its_value(value: str, rest: str, joined: str) -> None:
    assert str(NamePath.parse(value, "ipfs").join(rest)) == joined


def test_a_path_without_a_namespace_is_in_the_one_that_is_meant() -> None:
    assert str(NamePath.parse("bafkqaaa/x", "ipfs")) == "/ipfs/bafkqaaa/x"
    assert str(NamePath.parse("office/x", "ipns")) == "/ipns/office/x"


@pytest.mark.parametrize(
    "text", ["", "/", "/ipfs", "/ipfs/", "/ipfs/nonsense", "/ipld/bafkqaaa", "nonsense", "/ipns//x"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        NamePath.parse(text, "ipfs")


def test_paths_do_not_grow_for_ever() -> None:
    long = NamePath.parse(A, "ipfs").join("/x" * MAX_COMPONENTS)
    with pytest.raises(LimitError):
        long.join("/y")


@given(rest=st.text(max_size=20))
def test_a_path_reads_as_it_is_written(rest: str) -> None:
    try:
        path = NamePath.parse(f"/ipns/name/{rest}", "ipfs")
    except DecodeError:
        assert any("\ud800" <= char <= "\udfff" for char in rest)
        return
    assert str(path) == f"/ipns/name/{rest}"
