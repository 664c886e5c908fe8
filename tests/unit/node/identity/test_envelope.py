import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IntegrityError
from ipvcs.node.identity.envelope import MAX_ENVELOPE, EnvelopeError, SignedEnvelope
from ipvcs.node.identity.keys import KeyType, PrivateKey, generate_key
from ipvcs.objects.protobuf import ProtobufError

VECTORS = Path(__file__).parents[3] / "vectors"
GO = json.loads((VECTORS / "envelope" / "js_go_peer_record.json").read_text())
GO_ENVELOPE = bytes.fromhex(GO["rawEnvelope"])
GO_KEY = PrivateKey.decode(bytes.fromhex(GO["privKey"]))
JS = json.loads((VECTORS / "identify" / "js_identify.json").read_text())["messages"]

DOMAIN = "libp2p-peer-record"
TYPE = b"\x03\x01"
KEY = generate_key()


def test_an_envelope_made_by_go_libp2p_holds() -> None:
    envelope = SignedEnvelope.decode(GO_ENVELOPE)

    public_key, payload = envelope.verify(DOMAIN, TYPE)

    assert str(public_key.peer_id) == "12D3KooWB1b3qZxWJanuhtseF3DmPggHCtG36KZ9ixkqHtdKH9fh"
    assert public_key == GO_KEY.public_key
    assert payload == envelope.payload
    assert envelope.encode() == GO_ENVELOPE


def test_we_sign_the_same_payload_to_the_same_bytes_as_go_libp2p() -> None:
    payload = SignedEnvelope.decode(GO_ENVELOPE).payload

    assert SignedEnvelope.make(GO_KEY, DOMAIN, TYPE, payload).encode() == GO_ENVELOPE


@pytest.mark.parametrize("vector", JS, ids=lambda vector: str(vector["key_type"]))
def test_envelopes_made_by_js_libp2p_hold_for_every_kind_of_key(vector: dict[str, str]) -> None:
    public_key, _payload = SignedEnvelope.decode(bytes.fromhex(vector["envelope"])).verify(DOMAIN, TYPE)

    assert str(public_key.peer_id) == vector["peer_id"]


@pytest.mark.parametrize("position", range(len(GO_ENVELOPE)))
def test_an_envelope_with_any_bit_changed_does_not_hold(position: int) -> None:
    changed = bytearray(GO_ENVELOPE)
    changed[position] ^= 0x10
    with pytest.raises((EnvelopeError, IntegrityError)):
        SignedEnvelope.decode(bytes(changed)).verify(DOMAIN, TYPE)


def test_a_signature_made_for_another_purpose_does_not_hold() -> None:
    with pytest.raises(IntegrityError):
        SignedEnvelope.decode(GO_ENVELOPE).verify("libp2p-relay-rsvp", TYPE)


def test_a_payload_of_another_type_is_refused() -> None:
    envelope = SignedEnvelope.make(KEY, DOMAIN, b"\x03\x02", b"voucher")
    with pytest.raises(EnvelopeError, match="type 0302 instead of 0301"):
        envelope.verify(DOMAIN, TYPE)


def test_the_parts_that_are_signed_cannot_be_shifted_into_each_other() -> None:
    """Domain, type and payload are each signed with their length, so moving a byte between them shows."""
    envelope = SignedEnvelope.make(KEY, "ab", b"cd", b"ef")
    shifted = SignedEnvelope(envelope.public_key, b"c", b"def", envelope.signature)
    with pytest.raises(IntegrityError):
        shifted.verify("ab", b"c")
    with pytest.raises(IntegrityError):
        SignedEnvelope(envelope.public_key, b"bcd", b"ef", envelope.signature).verify("a", b"bcd")


@given(
    domain=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    payload_type=st.binary(min_size=1, max_size=20),
    payload=st.binary(max_size=300),
)
def test_what_is_made_is_read_and_holds(domain: str, payload_type: bytes, payload: bytes) -> None:
    made = SignedEnvelope.make(KEY, domain, payload_type, payload)

    read = SignedEnvelope.decode(made.encode())

    assert read == made
    assert read.verify(domain, payload_type) == (KEY.public_key, payload)


def test_rsa_signatures_fit() -> None:
    key = generate_key(KeyType.RSA)
    made = SignedEnvelope.make(key, DOMAIN, TYPE, b"x")
    assert SignedEnvelope.decode(made.encode()).verify(DOMAIN, TYPE) == (key.public_key, b"x")


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        SignedEnvelope.decode(data)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_missing_field_is_named(number: int) -> None:
    fields = {1: GO_KEY.public_key.encode(), 2: TYPE, 3: b"p", 5: b"s"}
    del fields[number]
    encoded = b"".join(bytes((n << 3 | 2, len(value))) + value for n, value in fields.items())
    with pytest.raises(EnvelopeError, match="is missing"):
        SignedEnvelope.decode(encoded)


def test_a_field_there_twice_is_refused_because_readers_would_differ_on_it() -> None:
    with pytest.raises(EnvelopeError, match="payload is there twice"):
        SignedEnvelope.decode(GO_ENVELOPE + b"\x1a\x01x")


def test_a_number_where_bytes_belong_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="is not bytes"):
        SignedEnvelope.decode(b"\x18\x01")


def test_unknown_fields_are_skipped() -> None:
    assert SignedEnvelope.decode(GO_ENVELOPE + b"\x22\x01x\x30\x05").encode() == GO_ENVELOPE


def test_an_envelope_larger_than_any_message_is_not_looked_at() -> None:
    with pytest.raises(EnvelopeError, match="over the limit"):
        SignedEnvelope.decode(GO_ENVELOPE + b"\x22" + b"\xff\x7f" + bytes(MAX_ENVELOPE))


def test_a_broken_message_keeps_its_reason() -> None:
    with pytest.raises(EnvelopeError, match="cut short") as caught:
        SignedEnvelope.decode(GO_ENVELOPE[:-1])
    assert isinstance(caught.value.__cause__, ProtobufError)
