"""What a stranger may send for a request, and what of it is refused before anything is made of it."""

import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.git_bridge.push_fields import MAX_FIELDS, PushMessageError
from ipvcs.git_bridge.push_requests import (
    MAX_OPTION,
    MAX_OPTIONS,
    MAX_QUERY,
    MAX_REQUEST,
    MAX_UPDATES,
    Offer,
    OfferedPack,
    OfferTooLargeError,
    Query,
    Request,
    Update,
    decode_request,
    encode_request,
    is_query,
)
from ipvcs.git_bridge.refname import MAX_REFNAME, RefName
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from tests.unit.git_bridge.push_strategies import field, offers, queries

OLD, NEW = ObjectId(b"\x01" * 20), ObjectId(b"\x02" * 20)
CID = Cid.of(bytes(32), codecs.DAG_PB)
UPDATE = Update(b"refs/heads/main", OLD, NEW, cid=CID)
PACK = OfferedPack(f"pack-{'ab' * 20}", CID, CID, 1000, 10)
OFFER = Offer((), b"k" * 16, ObjectFormat.SHA1, 1, "unixfs-v1-2025", (UPDATE,), PACK)


@given(queries() | offers())
def test_decode_after_encode_is_the_identity(request: Request) -> None:
    data = encode_request(request)
    assert decode_request(data) == request
    assert is_query(data) == isinstance(request, Query)


@given(st.binary(max_size=300))
def test_garbage_is_an_error_or_a_request_and_never_a_crash(data: bytes) -> None:
    try:
        request = decode_request(data)
    except PushMessageError:
        return
    assert decode_request(encode_request(request)) == request


@given(offers(), st.data())
def test_a_damaged_offer_is_an_error_or_an_offer(offer: Offer, data: st.DataObject) -> None:
    raw = bytearray(encode_request(offer))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] ^= data.draw(st.integers(1, 255))
    with suppress(PushMessageError):
        decode_request(bytes(raw))


@given(offers(), st.data())
def test_a_request_that_is_cut_short_is_refused(offer: Offer, data: st.DataObject) -> None:
    raw = encode_request(offer)
    with pytest.raises(PushMessageError):
        decode_request(raw[: data.draw(st.integers(0, len(raw) - 1))])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(field(15, b"") * (MAX_REQUEST // 2), id="empty fields that nobody knows"),
        pytest.param(field(2, field(15, b"") * (MAX_REQUEST // 2 - 5)), id="the same in an offer"),
        pytest.param(field(2, field(6, field(15, b"") * 80) * 4_900), id="the same in updates"),
        pytest.param(field(2, field(6, b"") * (MAX_REQUEST // 2 - 5)), id="empty updates"),
        pytest.param(field(2, field(1, b"") * (MAX_REQUEST // 2 - 5)), id="empty components"),
        pytest.param(field(2, field(11, b"") * (MAX_REQUEST // 2 - 5)), id="empty options"),
        pytest.param(field(1, field(1, b"") * 200), id="a query of empty components"),
        pytest.param(b"\xff" * MAX_REQUEST, id="one varint"),
        pytest.param(bytes(MAX_REQUEST), id="zeros"),
        pytest.param(field(2, field(6, field(1, b"x" * (MAX_REQUEST - 20)))), id="one large name"),
    ],
)
def test_what_fits_into_a_request_and_is_none_is_refused_in_bounded_time_and_memory(data: bytes) -> None:
    assert len(data) <= MAX_REQUEST
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(PushMessageError):
        decode_request(data)
    seconds, (_now, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 2, "tracing slows it down: without it takes a tenth"
    assert peak < 8 * MAX_REQUEST


def test_as_many_updates_as_there_may_be_fit_and_one_more_is_refused() -> None:
    updates = [replace(UPDATE, name=b"refs/heads/some-usual-name-%d" % number) for number in range(MAX_UPDATES)]
    full = replace(OFFER, updates=tuple(updates))
    data = encode_request(full)
    assert decode_request(data) == full
    with pytest.raises(OfferTooLargeError, match=r"5,001 refs, 5,000 are the most") as caught:
        encode_request(replace(full, updates=(*updates, replace(UPDATE, name=b"refs/heads/more"))))
    assert caught.value.hint == "push fewer refs at a time"
    inside = b"".join(field(6, field(1, update.name) + field(2, OLD.raw)) for update in updates)
    with pytest.raises(PushMessageError, match=r"'updates' of the offer comes too often, 5,000 is the most"):
        decode_request(field(2, inside + field(6, field(1, b"more"))))


def test_an_offer_whose_names_are_too_long_for_a_message_is_refused_before_it_is_sent() -> None:
    updates = tuple(replace(UPDATE, name=b"refs/heads/%04d/" % number + b"x" * 3900) for number in range(300))
    with pytest.raises(OfferTooLargeError, match=r"take 1,2\d\d,\d{3} bytes"):
        encode_request(replace(OFFER, updates=updates))
    with pytest.raises(OfferTooLargeError, match="65 options, 64 are the most"):
        encode_request(replace(OFFER, push_options=(b"",) * 65))


def test_a_request_of_more_than_a_megabyte_is_refused() -> None:
    with pytest.raises(PushMessageError, match=r"has 1,048,577 bytes"):
        decode_request(bytes(MAX_REQUEST + 1))


def test_fields_that_nobody_knows_are_skipped() -> None:
    later = field(9, b"later") + b"\x78\x01"
    inner = encode_request(Query((b"a",)))[2:]
    assert decode_request(later + field(1, later + inner) + later) == Query((b"a",))


def edited(offer: Offer, numbers: dict[int, bytes], *, more: bytes = b"") -> bytes:
    """The request of `offer` with other fields in place of its own: by number, as bytes with their head."""
    data = encode_request(offer)
    body = decode_fields(data)[0][1]
    kept = [raw for number, _value, raw in decode_raw(body) if number not in numbers]
    return field(2, b"".join(kept) + b"".join(numbers.values()) + more)


def decode_fields(data: bytes) -> list[tuple[int, bytes]]:
    return [(number, value) for number, value, _raw in decode_raw(data)]


def decode_raw(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """(number, value, whole field) of each field: varints and bytes, read here by other means."""
    found, position = [], 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while position < len(data):
        start = position
        key = varint()
        size = varint()
        value = b""
        if key & 7 == 2:
            value = data[position : position + size]
            position += size
        found.append((key >> 3, value, data[start:position]))
    return found


def update(name: bytes = b"n", *, old: bytes = b"", new: bytes = b"", cid: bytes = b"") -> bytes:
    return field(6, b"".join(field(number, each) for number, each in ((1, name), (2, old), (3, new), (5, cid)) if each))


def pack(**changes: bytes) -> bytes:
    fields = {"name": b"pack-" + b"ab" * 20, "pack": CID.raw, "commits": CID.raw} | changes
    parts = [field(number, fields[key]) for number, key in enumerate(("name", "pack", "commits"), 1)]
    return field(7, b"".join(parts) + fields.get("rest", b"\x20\x01\x28\x01"))


SHA512 = b"\x01\x70\x13\x40" + bytes(64)
V0 = b"\x12\x20" + bytes(32)
BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "neither a query nor an offer"),
    "two kinds": (field(1, b"") + encode_request(OFFER), "neither a query nor an offer"),
    "two queries": (field(1, b"") * 2, "'query' of the request comes too often"),
    "a kind of a later version": (field(3, b""), "neither a query nor an offer"),
    "a query as a number": (b"\x08\x01", "'query' of the request is of another type"),
    "a query that is too long": (field(1, bytes(MAX_QUERY + 1)), "'query' of the request has 1,025 bytes"),
    "a component of dots": (field(1, field(1, b"..")), "leads elsewhere"),
    "a component with a slash": (field(1, field(1, b"a/b")), "slash"),
    "a component with NUL": (field(1, field(1, b"a\0b")), "NUL"),
    "an empty component": (field(1, field(1, b"")), "empty"),
    "too many components": (field(1, field(1, b"a") * 17), "comes too often, 16"),
    "too long a path": (field(1, field(1, b"a" * 200) + field(1, b"b" * 56)), "255 bytes"),
    "an offer's path": (edited(OFFER, {1: field(1, b".")}), "leads elsewhere"),
    "no key": (edited(OFFER, {2: b""}), "key does not have 16 bytes"),
    "a short key": (edited(OFFER, {2: field(2, b"k" * 15)}), "key does not have 16 bytes"),
    "a long key": (edited(OFFER, {2: field(2, b"k" * 17)}), "'key' of the offer has 17 bytes"),
    "no object format": (edited(OFFER, {3: b""}), "'' is not an object format"),
    "md5": (edited(OFFER, {3: field(3, b"md5")}), "'md5' is not an object format"),
    "a format that is no text": (edited(OFFER, {3: field(3, b"\xff")}), "'object_format' of the offer is not UTF-8"),
    "no mapping": (edited(OFFER, {4: b""}), "have mapping 0, this owner has 1"),
    "mapping 2": (edited(OFFER, {4: b"\x20\x02"}), "have mapping 2, this owner has 1"),
    "mapping twice": (edited(OFFER, {}, more=b"\x20\x01"), "'mapping' of the offer comes twice"),
    "no profile": (edited(OFFER, {5: b""}), "names no profile"),
    "no updates": (edited(OFFER, {6: b""}), "updates nothing"),
    "a ref twice": (edited(OFFER, {}, more=update(b"refs/heads/main", old=OLD.raw)), "'refs/heads/main' twice"),
    "no name": (edited(OFFER, {6: update(b"", old=OLD.raw)}), "an update has no name"),
    "a name too long": (edited(OFFER, {6: update(b"n" * (MAX_REFNAME + 1))}), "'name' of the update has 4,001 bytes"),
    "a step from nothing to nothing": (edited(OFFER, {6: update()}), "deletes 'n', which it says is not there"),
    "an id of another format": (edited(OFFER, {6: update(old=bytes(32))}), "'old' of an update is not a sha1 id"),
    "half an id": (edited(OFFER, {6: update(new=bytes(19), cid=CID.raw)}), "'new' of an update is not a sha1 id"),
    "an update without CID": (edited(OFFER, {6: update(new=NEW.raw)}), "an update has no CID"),
    "a deletion with CID": (
        edited(OFFER, {6: update(old=OLD.raw, cid=CID.raw)}),
        "deletes, or of a dry run, has a CID",
    ),
    "a CID that is none": (edited(OFFER, {6: update(new=NEW.raw, cid=b"\x01\x70")}), "'cid' is not a CID"),
    "a CID of version 0": (edited(OFFER, {6: update(new=NEW.raw, cid=V0)}), "'cid' is not a CIDv1"),
    "a CID by sha2-512": (edited(OFFER, {7: pack(pack=SHA512)}), "'pack' of the pack has 68 bytes"),
    "an identity CID": (edited(OFFER, {7: pack(pack=b"\x01\x55\x00\x01a")}), "'pack' is not a CIDv1"),
    "a CID of dag-cbor": (edited(OFFER, {7: pack(commits=Cid.of(bytes(32), 0x71).raw)}), "'commits' is not a CIDv1"),
    "a pack of another format": (edited(OFFER, {7: pack(name=b"pack-" + b"ab" * 32)}), "not the name of a sha1 pack"),
    "a pack elsewhere": (edited(OFFER, {7: pack(name=b"pack-../../" + b"a" * 34)}), "not the name of a sha1 pack"),
    "a pack without bytes": (edited(OFFER, {7: pack(rest=b"\x28\x01")}), "the offered pack is empty"),
    "a pack without objects": (edited(OFFER, {7: pack(rest=b"\x20\x01")}), "the offered pack is empty"),
    "objects beyond 32 bits": (edited(OFFER, {7: pack(rest=b"\x20\x01\x28\x80\x80\x80\x80\x10")}), "is 4,294,967,296"),
    "a size beyond 63 bits": (edited(OFFER, {7: pack(rest=b"\x20" + b"\xff" * 9 + b"\x01")}), "'size' of the pack is"),
    "a dry run with a pack": (edited(OFFER, {9: b"\x48\x01"}), "a dry run offers a pack"),
    "a dry run with CIDs": (
        edited(replace(OFFER, pack=None), {9: b"\x48\x01"}),
        "deletes, or of a dry run, has a CID",
    ),
    "a head that is no ref": (edited(OFFER, {10: field(10, b"main")}), "'head' of the offer"),
    "a head that is a tag": (edited(OFFER, {10: field(10, b"refs/tags/v1")}), "is not a branch"),
    "too many options": (edited(OFFER, {11: field(11, b"") * (MAX_OPTIONS + 1)}), "comes too often, 64"),
    "an option too long": (edited(OFFER, {11: field(11, b"x" * (MAX_OPTION + 1))}), "has 1,025 bytes"),
    "an option of two lines": (edited(OFFER, {11: field(11, b"a\nb")}), "has a line feed or NUL"),
    "an option with NUL": (edited(OFFER, {11: field(11, b"a\0b")}), "has a line feed or NUL"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_breaks_a_rule_is_refused_with_a_sentence_about_it(name: str) -> None:
    data, said = BAD[name]
    with pytest.raises(PushMessageError) as caught:
        decode_request(data)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_the_edits_of_these_tests_make_requests_that_are_taken() -> None:
    """Else they would be refused for another reason than the one they are about."""
    assert decode_request(edited(OFFER, {})) == OFFER
    assert decode_request(edited(OFFER, {6: update(new=NEW.raw, cid=CID.raw), 7: pack()}))
    assert decode_request(edited(OFFER, {6: update(old=OLD.raw), 10: field(10, b"refs/heads/x")}))


@pytest.mark.parametrize("change", [lambda data: data + field(7, b""), lambda data: field(7, b"") + data])
def test_a_request_is_told_from_the_others_before_it_is_read(change: Callable[[bytes], bytes]) -> None:
    assert is_query(change(field(1, b"\xff nonsense")))
    assert not is_query(change(field(2, b"\xff nonsense")))
    with pytest.raises(PushMessageError):
        is_query(change(b""))


def test_the_sentence_about_a_name_shows_no_bytes_that_are_not_text() -> None:
    twice = update(b"\xff\x1b", old=OLD.raw)
    with pytest.raises(PushMessageError, match=r"'\\xff\x1b' twice"):
        decode_request(edited(OFFER, {}, more=twice + twice))


def test_a_head_may_have_any_bytes_that_a_ref_may() -> None:
    offer = replace(OFFER, head=RefName(b"refs/heads/\xff"))
    assert decode_request(encode_request(offer)) == offer


def test_the_field_count_has_room_for_the_largest_offer() -> None:
    assert MAX_UPDATES * 6 + 16 + MAX_OPTIONS + 16 < MAX_FIELDS
