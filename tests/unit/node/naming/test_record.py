"""IPNS records: the specification's, ours, and all that is not quite one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IntegrityError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import KeyType, PrivateKey
from ipvcs.node.naming import record as record_module
from ipvcs.node.naming.record import (
    MAX_RECORD,
    MAX_SEQUENCE,
    InvalidRecordError,
    IpnsRecord,
    RecordExpiredError,
    RecordSignatureError,
    RecordTooLargeError,
    UnusableValueError,
    decode_message,
    encode_data,
    encode_message,
)
from ipvcs.node.naming.validator import IpnsValidator, name_of_key, routing_key
from ipvcs.node.naming.validity import NS
from ipvcs.node.routing.interface import InvalidValueError
from ipvcs.objects import dag_cbor
from ipvcs.objects.data_model import Value
from tests.unit.node.identity.key_pool import KEYS
from tests.unit.node.naming.records import ACCEPTED, ALICE, BOB, EXPECTED, HOUR, JS, NOW, A, B, raw_of, record

YEAR_2124 = 4_860_000_000.0


def accept(raw: bytes, name: PeerId, now: float = NOW) -> IpnsRecord:
    found = IpnsRecord.decode(raw)
    found.verify(name)
    found.check_validity(now)
    return found


def ids(case: dict[str, Any]) -> str:
    return str(case["why"] or "good")


# ---- the specification's records ----


@pytest.mark.parametrize("case", EXPECTED, ids=ids)
def test_the_specifications_records_are_accepted_or_refused_as_it_says(case: dict[str, Any]) -> None:
    raw, name = raw_of(case), PeerId.parse(case["name"])
    if case["expect"] == "reject":
        with pytest.raises(InvalidRecordError):
            accept(raw, name)
        return
    found = accept(raw, name)
    assert found.path == case["path_after_accept"]
    assert found.validity.decode() == case["validity"]
    assert (found.sequence, found.ttl_ns) == (case["sequence"], case["ttl_ns"])
    assert found.raw == raw


def test_there_are_records_of_both_kinds() -> None:
    assert {case["expect"] for case in EXPECTED} == {"accept", "reject"}
    assert len(ACCEPTED) == 3


@pytest.mark.parametrize("case", ACCEPTED, ids=ids)
def test_our_encoders_give_the_bytes_that_are_in_them(case: dict[str, Any]) -> None:
    """Order of fields, explicit zeros, order of keys: all that signatures do not tell us to be right."""
    raw = raw_of(case)
    found = IpnsRecord.decode(raw)
    assert encode_data(found.value, found.sequence, found.validity, found.ttl_ns) == found.data
    assert encode_message(decode_message(raw)) == raw
    assert sorted(decode_message(raw)) == case["fields"]


@pytest.mark.parametrize("case", ACCEPTED, ids=ids)
def test_a_record_is_over_at_the_end_of_its_validity(case: dict[str, Any]) -> None:
    name = PeerId.parse(case["name"])
    with pytest.raises(RecordExpiredError, match="2123-08-14T12:17:03"):
        accept(raw_of(case), name, YEAR_2124)
    with pytest.raises(InvalidValueError, match="expired"):
        IpnsValidator().validate(routing_key(name), raw_of(case), YEAR_2124)
    IpnsValidator().validate(routing_key(name), raw_of(case), NOW)


@pytest.mark.parametrize("case", ACCEPTED, ids=ids)
def test_any_changed_byte_of_data_or_its_signature_is_refused(case: dict[str, Any]) -> None:
    raw, name = raw_of(case), PeerId.parse(case["name"])
    found = IpnsRecord.decode(raw)
    changed = 0
    for field in (found.signature, found.data):
        start = raw.index(field)
        for position in range(start, start + len(field)):
            for flip in (0x01, 0x80, 0xFF):
                bad = bytearray(raw)
                bad[position] ^= flip
                with pytest.raises(InvalidRecordError):
                    accept(bytes(bad), name)
                changed += 1
    assert changed == 3 * (len(found.signature) + len(found.data))


@pytest.mark.parametrize("case", ACCEPTED, ids=ids)
def test_a_record_cut_short_anywhere_is_refused(case: dict[str, Any]) -> None:
    raw, name = raw_of(case), PeerId.parse(case["name"])
    for length in range(len(raw)):
        with pytest.raises(InvalidRecordError):
            accept(raw[:length], name)


@pytest.mark.parametrize("case", JS, ids=lambda case: f"{case['type']}-{case['sequence']}")
def test_helias_records_are_read_and_written_alike(case: dict[str, Any]) -> None:
    raw, name = bytes.fromhex(case["record"]), PeerId.parse(case["name"])
    found = accept(raw, name)
    assert (found.path, found.validity.decode()) == (case["value"], case["validity"])
    assert (str(found.sequence), str(found.ttl_ns)) == (case["sequence"], case["ttl_ns"])
    assert encode_data(found.value, found.sequence, found.validity, found.ttl_ns) == found.data
    assert bool(found.signature_v1) == case["v1"]
    assert (found.public_key is not None) == (case["type"] == "RSA"), "only a key that the name can't hold is embedded"
    fields = set(decode_message(raw)) - {7}
    assert fields == ({1, 2, 3, 4, 5, 6, 8, 9} if case["v1"] else {8, 9})
    assert encode_message(decode_message(raw)) == raw


# ---- ours ----


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.type.name)
@pytest.mark.parametrize("legacy", [True, False])
def test_what_we_sign_verifies_with_every_type_of_key(key: PrivateKey, legacy: bool) -> None:
    ours = record(key, B, 7, legacy=legacy, ttl=60)
    found = accept(ours.raw, key.peer_id)
    assert (found.value, found.sequence, found.ttl_ns) == (B.encode(), 7, 60 * NS)
    assert found.expires_ns == int((NOW + 48 * HOUR) * NS)
    fields = decode_message(ours.raw)
    embeds = key.type in (KeyType.RSA, KeyType.ECDSA)
    assert (7 in fields) == embeds, "a key that the name can't hold is embedded, and no other"
    assert (set(fields) - {7}) == ({1, 2, 3, 4, 5, 6, 8, 9} if legacy else {8, 9})
    with pytest.raises(RecordSignatureError):
        found.verify(ALICE.peer_id)


def test_the_old_signature_covers_value_validity_and_eol() -> None:
    ours = record(ALICE, A, 3)
    ALICE.public_key.verify(ours.value + ours.validity + b"EOL", ours.signature_v1)


def test_ours_has_the_fields_of_the_specifications_own_record() -> None:
    (theirs,) = (raw_of(case) for case in ACCEPTED if case["file"].endswith("v1-v2.ipns-record"))
    assert list(decode_message(record().raw)) == list(decode_message(theirs))


def test_an_rsa_record_without_its_key_is_refused() -> None:
    key = KEYS[KeyType.RSA]
    fields = decode_message(record(key).raw)
    del fields[7]
    with pytest.raises(RecordSignatureError, match="lacks the public key"):
        accept(encode_message(fields), key.peer_id)


def test_an_embedded_key_must_be_the_names() -> None:
    fields = decode_message(record(ALICE).raw)
    fields[7] = ALICE.public_key.encode()
    accept(encode_message(fields), ALICE.peer_id)
    fields[7] = BOB.public_key.encode()
    with pytest.raises(RecordSignatureError, match="not that of"):
        accept(encode_message(fields), ALICE.peer_id)
    fields[7] = b"\x08\x01\x12\x01x"
    with pytest.raises(RecordSignatureError):
        accept(encode_message(fields), ALICE.peer_id)


def test_a_name_whose_own_key_is_no_key_is_refused() -> None:
    name = PeerId.from_public_key(b"not a key")
    with pytest.raises(RecordSignatureError, match="can't be used"):
        record(ALICE).verify(name)


def test_a_wrong_signature_is_an_integrity_error_of_the_record() -> None:
    with pytest.raises(IntegrityError) as caught:
        record(ALICE).verify(BOB.peer_id)
    assert isinstance(caught.value, InvalidRecordError)
    assert BOB.peer_id.to_base36() in str(caught.value)


# ---- the fields of the first version ----


@pytest.mark.parametrize(
    ("number", "value"),
    [(1, b"/ipfs/bafkqaaa/x"), (3, 1), (4, b"2123-08-14T12:17:03Z"), (5, 4), (6, 1)],
)
def test_each_old_field_must_say_what_the_data_says(number: int, value: bytes | int) -> None:
    fields = decode_message(record(ALICE, A, 3).raw)
    fields[number] = value
    with pytest.raises(InvalidRecordError, match="is not what its data says"):
        IpnsRecord.decode(encode_message(fields))
    del fields[number]
    if number != 3:  # whose zero may be left out
        with pytest.raises(InvalidRecordError, match="is not what its data says"):
            IpnsRecord.decode(encode_message(fields))


def test_old_zeros_may_be_left_out() -> None:
    fields = decode_message(record(ALICE, A, 0).raw)
    del fields[3], fields[5]
    accept(encode_message(fields), ALICE.peer_id)


def test_without_old_value_and_signature_the_rest_of_the_first_version_is_not_looked_at() -> None:
    fields = decode_message(record(ALICE, A, 3, legacy=False).raw)
    fields[5] = 99
    assert accept(encode_message(fields), ALICE.peer_id).sequence == 3


# ---- other people's ways to write one ----


def signed(data: bytes, key: PrivateKey = ALICE) -> bytes:
    return encode_message({8: key.sign(b"ipns-signature:" + data), 9: data})


def data_of(**changes: Value) -> dict[str, Value]:
    whole: dict[str, Value] = {
        "TTL": 1,
        "Value": A.encode(),
        "Sequence": 2,
        "Validity": b"2123-08-14T12:17:03Z",
        "ValidityType": 0,
    }
    return {key: value for key, value in (whole | changes).items() if value != "absent"}


def test_keys_that_we_do_not_know_are_tolerated_and_kept() -> None:
    raw = signed(dag_cbor.encode(data_of(_note=["x", 1], Other=None))) + b"\x5a\x03new"
    found = accept(raw, ALICE.peer_id)
    assert found.raw == raw
    assert found.sequence == 2


def test_another_order_of_keys_is_another_writing_of_the_same() -> None:
    entries = [dag_cbor.encode({key: value})[1:] for key, value in sorted(data_of().items())]
    raw = signed(bytes((0xA0 | len(entries),)) + b"".join(entries))
    assert accept(raw, ALICE.peer_id).value == A.encode()


def test_a_missing_ttl_is_do_not_cache() -> None:
    assert accept(signed(dag_cbor.encode(data_of(TTL="absent"))), ALICE.peer_id).ttl_ns == 0


@pytest.mark.parametrize(
    "changes",
    [
        *({key: "absent"} for key in ("Value", "Sequence", "Validity", "ValidityType")),
        {"Value": "/ipfs/bafkqaaa"},
        {"Validity": "2123-08-14T12:17:03Z"},
        {"Validity": b"tomorrow"},
        {"ValidityType": 1},
        {"ValidityType": False},
        {"ValidityType": 0.0},
        {"Sequence": -1},
        {"Sequence": True},
        {"Sequence": 1.0},
        {"TTL": -1},
        {"TTL": None},
    ],
    ids=str,
)
def test_data_with_other_types_is_refused_however_well_signed(changes: dict[str, Value]) -> None:
    with pytest.raises(InvalidRecordError):
        IpnsRecord.decode(signed(dag_cbor.encode(data_of(**changes))))


@pytest.mark.parametrize("data", [b"\xff", b"\x80", b"\xa0", b"\xa1\x65Value", dag_cbor.encode(data_of()) + b"\x00"])
def test_data_that_is_no_map_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRecordError):
        IpnsRecord.decode(signed(data))


@pytest.mark.parametrize("number", range(1, 10))
def test_a_field_that_is_there_twice_is_refused(number: int) -> None:
    fields = decode_message(record(KEYS[KeyType.RSA]).raw)
    with pytest.raises(InvalidRecordError, match="is there twice"):
        IpnsRecord.decode(encode_message(fields) + encode_message({number: fields[number]}))


@pytest.mark.parametrize("number", range(1, 10))
def test_a_field_of_another_type_is_refused(number: int) -> None:
    fields = decode_message(record(KEYS[KeyType.RSA]).raw)
    fields[number] = 1 if isinstance(fields[number], bytes) else b"x"
    with pytest.raises(InvalidRecordError, match="of another type"):
        IpnsRecord.decode(encode_message(fields))


def test_the_size_is_bounded_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = decode_message(record(ALICE, legacy=False).raw)
    padding = MAX_RECORD - len(encode_message(fields)) - 3
    raw = encode_message(fields | {11: bytes(padding)})
    assert len(raw) == MAX_RECORD
    accept(raw, ALICE.peer_id)
    monkeypatch.setattr(record_module, "decode_message", pytest.fail)
    with pytest.raises(InvalidRecordError, match="10241 bytes is over the limit"):
        IpnsRecord.decode(encode_message(fields | {11: bytes(padding + 1)}))


def test_a_value_that_does_not_fit_is_our_callers_fault() -> None:
    record(ALICE, "/ipfs/bafkqaaa/" + "x" * 4900)
    with pytest.raises(RecordTooLargeError):
        record(ALICE, "/ipfs/bafkqaaa/" + "x" * 5100)


@pytest.mark.parametrize("value", ["", "bafkqaaa", "/ipfs", "/ipld/bafkqaaa", "\x12\x20hash", " /ipfs/bafkqaaa"])
def test_a_value_that_is_no_path_is_carried_but_not_followed(value: str) -> None:
    found = accept(record(ALICE, value).raw, ALICE.peer_id)
    with pytest.raises(UnusableValueError):
        assert found.path


@given(raw=st.binary(max_size=200))
def test_garbage_raises_nothing_but_our_error(raw: bytes) -> None:
    with pytest.raises(InvalidRecordError):
        IpnsRecord.decode(raw)


@given(
    value=st.binary(max_size=100),
    sequence=st.integers(0, MAX_SEQUENCE),
    expires=st.integers(0, 250_000_000_000 * NS),
    ttl=st.integers(0, 2**63 - 1),
    legacy=st.booleans(),
)
def test_what_we_sign_reads_as_it_was_meant(value: bytes, sequence: int, expires: int, ttl: int, legacy: bool) -> None:
    ours = IpnsRecord.sign(ALICE, value, sequence=sequence, expires_ns=expires, ttl_ns=ttl, legacy=legacy)
    found = IpnsRecord.decode(ours.raw)
    found.verify(ALICE.peer_id)
    assert (found.value, found.sequence, found.expires_ns, found.ttl_ns) == (value, sequence, expires, ttl)
    assert found.is_valid_at(expires // NS)
    assert not found.is_valid_at(expires // NS + 1)


# ---- the namespace's rules ----


def test_a_name_and_its_routing_key_are_two_forms_of_one_thing() -> None:
    for key in KEYS.values():
        assert routing_key(key.peer_id) == b"/ipns/" + key.peer_id.raw
        assert name_of_key(routing_key(key.peer_id)) == key.peer_id


@pytest.mark.parametrize("key", [b"", b"/ipns/", b"/pk/" + ALICE.peer_id.raw, b"/ipns/" + str(ALICE.peer_id).encode()])
def test_other_keys_are_not_of_the_namespace(key: bytes) -> None:
    with pytest.raises(InvalidValueError):
        IpnsValidator().validate(key, record(ALICE).raw, NOW)


def test_only_the_names_own_unexpired_record_is_valid() -> None:
    validator, key = IpnsValidator(), routing_key(ALICE.peer_id)
    validator.validate(key, record(ALICE).raw, NOW)
    for bad in (record(BOB).raw, record(ALICE).raw[:-1], b"", record(ALICE, expires=NOW - 1).raw):
        with pytest.raises(InvalidValueError):
            validator.validate(key, bad, NOW)


def test_the_best_record_has_the_highest_sequence_then_the_latest_end_then_the_greatest_bytes() -> None:
    low = record(ALICE, A, 1, expires=NOW + 100 * HOUR)
    early = record(ALICE, A, 2, expires=NOW + 1 * HOUR)
    late = record(ALICE, A, 2, expires=NOW + 2 * HOUR)
    assert low.expires_ns > late.expires_ns
    select = IpnsValidator().select
    assert select(b"", [low.raw, early.raw]) == 1
    assert select(b"", [late.raw, early.raw, low.raw]) == 0
    assert select(b"", [early.raw, early.raw]) == 0, "the first of equals"
    other = record(ALICE, B, 2, expires=NOW + 2 * HOUR)
    greater = max(late.raw, other.raw)
    assert select(b"", [late.raw, other.raw]) == [late.raw, other.raw].index(greater)
    assert select(b"", [other.raw, late.raw]) == [other.raw, late.raw].index(greater)
