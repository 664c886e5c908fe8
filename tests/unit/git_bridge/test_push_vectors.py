"""The messages of pushes as Google's protobuf runtime writes them, byte for byte."""

import json
from pathlib import Path

import pytest

from ipvcs.git_bridge.push_replies import (
    Answer,
    Failure,
    FailureCode,
    Progress,
    Reply,
    Result,
    Standing,
    Text,
    decode_reply,
    encode_reply,
)
from ipvcs.git_bridge.push_requests import Offer, OfferedPack, Query, Request, Update, decode_request, encode_request
from ipvcs.git_bridge.refname import RefName
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId

WRITTEN: dict[str, str] = json.loads(Path("tests/vectors/push/messages.json").read_text())["messages"]


def run(start: int, size: int = 32) -> bytes:
    return bytes(range(start, start + size))


def sha1(start: int) -> ObjectId:
    return ObjectId(run(start, 20))


def directory(start: int) -> Cid:
    return Cid.of(run(start), codecs.DAG_PB)


REQUESTS: dict[str, Request] = {
    "query-of-the-name-itself": Query(()),
    "query": Query((b"team", b"pr\xc3\xb6ject\xff")),
    "offer": Offer(
        path=(b"team", b"project"),
        key=run(1, 16),
        object_format=ObjectFormat.SHA1,
        mapping=1,
        profile="unixfs-v1-2025",
        updates=(
            Update(b"refs/heads/main", sha1(2), sha1(3), force=True, cid=directory(4)),
            Update(b"refs/heads/\xff", None, sha1(5), cid=Cid.of(run(6))),
            Update(b"refs/tags/old", sha1(7), None),
        ),
        pack=OfferedPack(f"pack-{run(8, 20).hex()}", directory(9), Cid.of(run(10)), 1 << 40, 300),
        atomic=True,
        head=RefName(b"refs/heads/main"),
        push_options=(b"ci.skip", b""),
    ),
    "offer-sha256-dry": Offer(
        path=(),
        key=run(11, 16),
        object_format=ObjectFormat.SHA256,
        mapping=1,
        profile="cdc-1",
        updates=(Update(b"refs/heads/main", ObjectId(run(12)), ObjectId(run(13))),),
        dry_run=True,
    ),
}
REPLIES: dict[str, Reply] = {
    "standing": Standing(directory(14), frozenset(("create", "tag", "update")), 1 << 30, 2_000_000),
    "standing-of-nothing": Standing(None, frozenset(("create",)), 1, 1),
    "progress": Progress("fetching", (1 << 64) - 1, 300),
    "progress-of-nothing": Progress(""),
    "text": Text(b"\x1b[31mhook\xff\n"),
    "answer": Answer(
        (
            Result(b"refs/heads/main", forced=True),
            Result(b"refs/heads/\xff", "fetch first"),
            Result(b"refs/tags/old"),
        ),
        directory(15),
    ),
    "failure": Failure(FailureCode.DENIED, "nö", "`ipvcs access add`"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_what_the_runtime_writes(name: str) -> None:
    written = bytes.fromhex(WRITTEN[name])
    assert encode_request(REQUESTS[name]) == written
    assert decode_request(written) == REQUESTS[name]


@pytest.mark.parametrize("name", REPLIES)
def test_replies_are_what_the_runtime_writes(name: str) -> None:
    written = bytes.fromhex(WRITTEN[name])
    assert encode_reply(REPLIES[name]) == written
    assert decode_reply(written) == REPLIES[name]


def test_a_code_of_a_later_version_counts_as_failed() -> None:
    assert decode_reply(bytes.fromhex(WRITTEN["failure-later"])) == Failure(FailureCode.FAILED, "?")


def test_every_vector_is_read() -> None:
    assert WRITTEN.keys() == REQUESTS.keys() | REPLIES.keys() | {"failure-later"}
