"""Strategies for values of the data model and for dag-pb nodes."""

from hypothesis import strategies as st

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.data_model import MAX_INT, MIN_INT, Value
from tests.strategies import cids, varints

_SOME_CIDS = (
    Cid.parse("bafkqaaa"),
    Cid.parse("QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"),
    Cid.parse("bafyreidj5idub6mapiupjwjsyyxhyhedxycv4vihfsicm2vt46o7morwlm"),
)


def texts() -> st.SearchStrategy[str]:
    """Unicode strings, which JSON and CBOR both have."""
    return st.text(st.characters(codec="utf-8"), max_size=12)


def keys() -> st.SearchStrategy[str]:
    """Map keys, among them those that dag-json reserves."""
    return st.one_of(texts(), st.sampled_from(("/", "bytes", "a", "!", "")))


def values() -> st.SearchStrategy[Value]:
    """Values of every kind, nested."""
    leaves: st.SearchStrategy[Value] = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(MIN_INT, MAX_INT),
        st.floats(allow_nan=False, allow_infinity=False),
        texts(),
        st.binary(max_size=40),
        st.sampled_from(_SOME_CIDS),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(keys(), inner, max_size=5)),
        max_leaves=8,
    )


def links() -> st.SearchStrategy[PBLink]:
    """Links with and without a name and a size; names are any bytes."""
    names = st.one_of(st.none(), st.binary(max_size=12), st.binary(min_size=126, max_size=130))
    return st.builds(PBLink, cids(), names, st.one_of(st.none(), varints()))


def nodes() -> st.SearchStrategy[PBNode]:
    """Nodes whose links are in any order."""
    return st.builds(PBNode, st.lists(links(), max_size=6).map(tuple), st.one_of(st.none(), st.binary(max_size=200)))
