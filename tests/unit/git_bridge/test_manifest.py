"""The manifest: canonical, whole again when read, and refused when a reader could misread it."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError
from ipvcs.git_bridge.manifest import (
    MAX_SIZE,
    MAX_TIPS,
    Manifest,
    ManifestError,
    ManifestTooLargeError,
    PackEntry,
    decode_manifest,
)
from ipvcs.git_bridge.refname import RefName
from ipvcs.objects.block import Block
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from tests.fakes.memory_network import key_of

OID = ObjectId(b"\xab" * 20)
PACK = PackEntry(f"pack-{'0' * 40}", 1234, 5, (OID,), (ObjectId(b"\x01" * 20),))
MANIFEST = Manifest(
    ObjectFormat.SHA1, "unixfs-v1-2025", RefName(b"refs/heads/main"), (PACK,), Block.of(b"root").cid, 7, 1_700_000_000,
    key_of("alice").peer_id,
)  # fmt: skip


def changed(**fields: Any) -> bytes:
    return json.dumps(json.loads(MANIFEST.encode()) | fields).encode()


def test_the_bytes_are_canonical() -> None:
    fields = json.loads(MANIFEST.encode())
    assert list(fields) == [
        "version", "mapping", "object_format", "profile", "head", "packs", "previous", "sequence", "published",
        "publisher",
    ]  # fmt: skip
    assert list(fields["packs"][0]) == ["name", "size", "objects", "tips", "bases"]
    assert fields["published"] == "2023-11-14T22:13:20Z"
    assert MANIFEST.encode() == decode_manifest(MANIFEST.encode()).encode()


@pytest.mark.parametrize(
    "manifest",
    [
        MANIFEST,
        replace(MANIFEST, head=None, previous=None, packs=()),
        replace(MANIFEST, head=OID),
        replace(MANIFEST, head=RefName(b"refs/heads/\xff\xfe")),
        replace(MANIFEST, head=RefName("refs/heads/é".encode())),
        replace(
            MANIFEST,
            object_format=ObjectFormat.SHA256,
            packs=(PackEntry(f"pack-{'f' * 64}", 0, 0, (ObjectId(b"\2" * 32),)),),
        ),
    ],
)
def test_a_manifest_comes_back(manifest: Manifest) -> None:
    assert decode_manifest(manifest.encode()) == manifest


def test_more_tips_than_fit_are_not_named() -> None:
    tips = tuple(ObjectId(number.to_bytes(20, "big")) for number in range(1, MAX_TIPS + 2))
    (pack,) = decode_manifest(replace(MANIFEST, packs=(replace(PACK, tips=tips),)).encode()).packs
    assert pack.tips == ()


def test_what_does_not_fit_into_a_block_is_not_written() -> None:
    packs = tuple(replace(PACK, name=f"pack-{number:040x}") for number in range(10_000))
    with pytest.raises(ManifestTooLargeError, match="10,000 packs"):
        replace(MANIFEST, packs=packs).encode()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (MAX_SIZE + 1), "larger than a block"),
        (MANIFEST.encode().replace(b'"sequence": 7', b'"sequence": 7, "sequence": 8'), "twice"),
        (changed(version=2), "version 2"),
        (changed(version="1"), "no 'version'"),
        (changed(version=True), "no 'version'"),
        (changed(mapping=2), "mapping 2"),
        (changed(object_format="sha3"), "unknown object format"),
        (changed(head="main"), "id"),
        (changed(head="refs/heads/../x"), "head"),
        (changed(head="ab" * 32), "not a sha1 id"),
        (changed(packs={}), "no 'packs'"),
        (changed(packs=[1]), "pack"),
        (changed(packs=[{"name": "../../x", "size": 1, "objects": 1, "tips": [], "bases": []}]), "name of a pack"),
        (changed(packs=json.loads(MANIFEST.encode())["packs"] * 2), "a pack twice"),
        (changed(packs=[{"name": PACK.name, "size": -1, "objects": 1, "tips": [], "bases": []}]), "out of range"),
        (changed(packs=[{"name": PACK.name, "size": 1.5, "objects": 1, "tips": [], "bases": []}]), "no 'size'"),
        (changed(packs=[{"name": PACK.name, "size": 1, "objects": 1, "tips": [None], "bases": []}]), "not text"),
        (changed(previous="x"), "previous"),
        (changed(sequence=-1), "out of range"),
        (changed(sequence=float("nan")), "NaN"),
        (changed(published="yesterday"), "published"),
        (changed(publisher="x"), "publisher"),
    ],
)  # fmt: skip
def test_what_could_be_misread_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ManifestError, match=problem):
        decode_manifest(data)


def test_what_a_later_version_adds_is_left_alone() -> None:
    assert decode_manifest(changed(derived=["x"])) == MANIFEST


@given(
    st.binary(max_size=100)
    | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_garbage_raises_only_our_errors(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_manifest(data)
