"""Hypothesis strategies for the messages of pushes, and fields written by other means than the code under test."""

from hypothesis import strategies as st

from ipvcs.git_bridge.push_replies import (
    Answer,
    Failure,
    FailureCode,
    Progress,
    Reply,
    Result,
    Standing,
    Text,
)
from ipvcs.git_bridge.push_requests import KEY_SIZE, Offer, OfferedPack, Query, Update
from ipvcs.git_bridge.refname import RefName
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from tests.strategies import cids

NUMBERS = st.integers(0, (1 << 64) - 1)


def field(number: int, value: bytes) -> bytes:
    """A field of wire type BYTES."""
    size, head = len(value), b""
    while size >= 128:
        head, size = head + bytes((size & 127 | 128,)), size >> 7
    return bytes((number << 3 | 2,)) + head + bytes((size,)) + value


def mapped_cids() -> st.SearchStrategy[Cid]:
    """CIDs as the mapping makes them."""
    return st.builds(Cid.of, st.binary(min_size=32, max_size=32), st.sampled_from((codecs.RAW, codecs.DAG_PB)))


def paths() -> st.SearchStrategy[tuple[bytes, ...]]:
    names = st.binary(min_size=1, max_size=12).filter(
        lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name
    )
    return st.lists(names, max_size=4).map(tuple)


def queries() -> st.SearchStrategy[Query]:
    return st.builds(Query, paths())


@st.composite
def updates(draw: st.DrawFn, object_format: ObjectFormat, *, is_dry: bool) -> Update:
    oids = st.binary(min_size=object_format.size, max_size=object_format.size).map(ObjectId)
    name, force = draw(st.binary(min_size=1, max_size=40)), draw(st.booleans())
    new = draw(st.none() | oids)
    old = draw(oids if new is None else st.none() | oids)
    return Update(name, old, new, force, None if new is None or is_dry else draw(mapped_cids()))


@st.composite
def offers(draw: st.DrawFn) -> Offer:
    object_format, is_dry = draw(st.sampled_from(ObjectFormat)), draw(st.booleans())
    digits = st.binary(min_size=object_format.size, max_size=object_format.size)
    packs = st.builds(
        OfferedPack,
        digits.map(lambda raw: f"pack-{raw.hex()}"),
        mapped_cids(),
        mapped_cids(),
        st.integers(1, (1 << 63) - 1),
        st.integers(1, (1 << 32) - 1),
    )
    names = st.lists(updates(object_format, is_dry=is_dry), min_size=1, max_size=4, unique_by=lambda each: each.name)
    option = st.binary(max_size=20).filter(lambda each: b"\n" not in each and b"\0" not in each)
    return Offer(
        path=draw(paths()),
        key=draw(st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE)),
        object_format=object_format,
        mapping=1,
        profile=draw(st.sampled_from(("unixfs-v1-2025", "cdc-1"))),
        updates=tuple(draw(names)),
        pack=None if is_dry else draw(st.none() | packs),
        atomic=draw(st.booleans()),
        dry_run=is_dry,
        head=draw(st.none() | st.sampled_from((RefName(b"refs/heads/main"), RefName(b"refs/heads/\xff")))),
        push_options=tuple(draw(st.lists(option, max_size=3))),
    )


def replies() -> st.SearchStrategy[Reply]:
    sentences = st.text(st.characters(codec="utf-8"), max_size=30)
    results = st.builds(Result, st.binary(max_size=30), st.none() | sentences.filter(bool), st.booleans())
    rights = st.frozensets(st.sampled_from(("create", "update", "later")))
    return st.one_of(
        st.builds(Standing, st.none() | cids().filter(lambda cid: len(cid.raw) <= 64), rights, NUMBERS, NUMBERS),
        st.builds(Progress, sentences.filter(lambda text: len(text.encode()) <= 64), NUMBERS, NUMBERS),
        st.builds(Text, st.binary(max_size=60)),
        st.builds(Answer, st.lists(results, max_size=4).map(tuple), st.none() | mapped_cids()),
        st.builds(Failure, st.sampled_from(FailureCode), sentences, sentences),
    )
