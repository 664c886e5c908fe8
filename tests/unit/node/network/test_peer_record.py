import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError, IntegrityError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.identity.envelope import EnvelopeError, SignedEnvelope
from ipvcs.node.identity.keys import PrivateKey, generate_key
from ipvcs.node.network.peer_record import (
    DOMAIN,
    MAX_ADDRS,
    PAYLOAD_TYPE,
    PeerRecord,
    PeerRecordError,
    PeerRecordSignerError,
    open_record,
    seal,
)
from tests.strategies import multiaddrs, peer_ids

VECTORS = Path(__file__).parents[3] / "vectors"
GO = json.loads((VECTORS / "envelope" / "js_go_peer_record.json").read_text())
GO_ENVELOPE = bytes.fromhex(GO["rawEnvelope"])
GO_KEY = PrivateKey.decode(bytes.fromhex(GO["privKey"]))
GO_SEQ = 1598453001624231000
GO_ADDRS = tuple(Multiaddr.parse(f"/ip4/1.2.3.4/tcp/{port}") for port in range(10))
JS = json.loads((VECTORS / "identify" / "js_identify.json").read_text())["messages"]

KEY = generate_key()
PEER = KEY.public_key.peer_id
ADDR = Multiaddr.parse("/ip4/192.168.1.2/tcp/4001")


def test_a_record_made_by_go_libp2p_is_read() -> None:
    record = open_record(GO_ENVELOPE)

    assert str(record.peer_id) == "12D3KooWB1b3qZxWJanuhtseF3DmPggHCtG36KZ9ixkqHtdKH9fh"
    assert record.seq == GO_SEQ
    assert record.addrs == GO_ADDRS


def test_we_write_the_same_record_as_go_libp2p_to_the_byte() -> None:
    assert seal(GO_KEY, GO_SEQ, GO_ADDRS) == GO_ENVELOPE


@pytest.mark.parametrize("vector", JS, ids=lambda vector: str(vector["key_type"]))
def test_records_made_by_js_libp2p_are_read(vector: dict[str, object]) -> None:
    record = open_record(bytes.fromhex(str(vector["envelope"])))

    assert str(record.peer_id) == vector["peer_id"]
    assert record.seq == int(str(vector["seq"]))
    assert [str(addr) for addr in record.addrs] == vector["addrs"]


@given(peer_id=peer_ids(), seq=st.integers(0, (1 << 64) - 1), addrs=st.lists(multiaddrs(), max_size=6, unique=True))
def test_decode_inverts_encode(peer_id: object, seq: int, addrs: list[Multiaddr]) -> None:
    record = PeerRecord(peer_id, seq, tuple(addrs))  # type: ignore[arg-type]
    assert PeerRecord.decode(record.encode()) == record


@given(st.binary(max_size=100))
def test_garbage_raises_only_our_errors(data: bytes) -> None:
    with suppress(PeerRecordError):
        PeerRecord.decode(data)
    with pytest.raises((DecodeError, IntegrityError)):
        open_record(data)


def test_a_record_about_somebody_else_is_refused() -> None:
    other = generate_key()
    payload = PeerRecord(PEER, 1, (ADDR,)).encode()
    with pytest.raises(PeerRecordSignerError) as caught:
        open_record(SignedEnvelope.make(other, DOMAIN, PAYLOAD_TYPE, payload).encode())
    assert caught.value.peer_id == PEER
    assert caught.value.signer == other.public_key.peer_id


def test_a_forged_record_is_refused() -> None:
    forged = SignedEnvelope.decode(seal(KEY, 1, [ADDR]))
    payload = PeerRecord(PEER, 2, (ADDR,)).encode()
    with pytest.raises(IntegrityError):
        open_record(SignedEnvelope(forged.public_key, PAYLOAD_TYPE, payload, forged.signature).encode())


def test_an_envelope_with_something_else_is_refused() -> None:
    voucher = SignedEnvelope.make(KEY, DOMAIN, b"\x03\x02", PeerRecord(PEER, 1).encode())
    with pytest.raises(EnvelopeError):
        open_record(voucher.encode())


def test_addresses_of_unknown_kinds_cost_only_themselves() -> None:
    unknown = bytes.fromhex("1a051a03") + b"abc"  # AddressInfo without field 1
    strange = bytes.fromhex("1a060a04") + b"\xff\xff\x7f\x00"  # a protocol nobody has
    empty = bytes.fromhex("1a00")
    encoded = PeerRecord(PEER, 7).encode() + unknown + strange + empty + PeerRecord(PEER, 7, (ADDR,)).encode()

    assert PeerRecord.decode(encoded).addrs == (ADDR,)


def test_no_more_than_so_many_addresses_are_read_and_each_once() -> None:
    many = [Multiaddr.parse(f"/ip4/1.2.3.4/tcp/{port}") for port in range(500)]
    record = PeerRecord(PEER, 1, (many[0], many[0], *many))

    assert PeerRecord.decode(record.encode()).addrs == tuple(many[:MAX_ADDRS])


@pytest.mark.parametrize(
    ("encoded", "match"),
    [
        (b"\x10\x01", "no peer id"),
        (b"\x08\x01", "is a number"),
        (b"\x0a\x02ab", "invalid peer id"),
        (b"\x12\x01a", "seq is not a varint"),
        (b"\x18\x01", "is a number"),
        (b"\x1a\x05a", "cut short"),
    ],
)
def test_a_broken_record_is_refused_with_the_reason(encoded: bytes, match: str) -> None:
    with pytest.raises(PeerRecordError, match=match):
        PeerRecord.decode(encoded)
