"""Peer records: where a peer says it can be reached, signed so that others may pass it on.

A newer record has a larger `seq`; nothing else may be concluded from it, though most peers take the time for it.

Spec: https://github.com/libp2p/specs/blob/master/RFC/0003-routing-records.md
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from ipvcs.errors import DecodeError, IntegrityError
from ipvcs.multiformats.multiaddr import Multiaddr, MultiaddrError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.envelope import SignedEnvelope
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.objects.protobuf import BYTES, VARINT, ProtobufError, encode_varint, iter_fields

DOMAIN: Final = "libp2p-peer-record"
PAYLOAD_TYPE: Final = b"\x03\x01"
"""The multicodec libp2p-peer-record, 0x0301, most significant byte first as everybody writes it."""
MAX_ADDRS: Final = 64
"""Addresses read from one record; more are dropped. Large servers name some 20, and each one named is one dialled."""

_PEER_ID: Final = 1
_SEQ: Final = 2
_ADDRESSES: Final = 3
_MULTIADDR: Final = 1  # in AddressInfo


class PeerRecordError(DecodeError):
    """Bytes are not a peer record."""


class PeerRecordSignerError(IntegrityError):
    """A peer record is signed by somebody else than the peer it is about."""

    def __init__(self, peer_id: PeerId, signer: PeerId) -> None:
        super().__init__(f"record of peer '{peer_id}' is signed by '{signer}'")
        self.peer_id = peer_id
        self.signer = signer


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """What a peer says of itself."""

    peer_id: PeerId
    seq: int
    addrs: tuple[Multiaddr, ...] = ()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a record. Addresses that we cannot parse are left out, as are those beyond `MAX_ADDRS`.

        Raises:
            PeerRecordError: not such a message, or without a peer id.
        """
        peer_id = None
        seq = 0
        addrs: dict[Multiaddr, None] = {}
        try:
            for number, _wire_type, value in iter_fields(data):
                if number == _PEER_ID:
                    peer_id = PeerId.decode(_bytes(value))
                elif number == _SEQ:
                    if not isinstance(value, int) or _wire_type != VARINT:
                        raise ProtobufError("field seq is not a varint")
                    seq = value
                elif number == _ADDRESSES and len(addrs) < MAX_ADDRS:
                    addrs.update(dict.fromkeys(_decode_address_info(_bytes(value))))
        except DecodeError as exc:
            raise PeerRecordError(f"invalid peer record: {exc}") from exc
        if peer_id is None:
            raise PeerRecordError("invalid peer record: it has no peer id")
        return cls(peer_id, seq, tuple(addrs))

    def encode(self) -> bytes:
        """Return the message, fields in order."""
        encoded = _field(_PEER_ID, self.peer_id.raw)
        if self.seq:
            encoded += encode_varint(_SEQ << 3 | VARINT) + encode_varint(self.seq)
        return encoded + b"".join(_field(_ADDRESSES, _field(_MULTIADDR, addr.raw)) for addr in self.addrs)


def seal(private_key: PrivateKey, seq: int, addrs: Iterable[Multiaddr]) -> bytes:
    """Return our own record in its envelope, as it travels. `seq` must grow with every change, over restarts too."""
    record = PeerRecord(private_key.public_key.peer_id, seq, tuple(addrs))
    return SignedEnvelope.make(private_key, DOMAIN, PAYLOAD_TYPE, record.encode()).encode()


def open_record(data: bytes) -> PeerRecord:
    """Return the record in the envelope `data`, proved to come from the peer it is about.

    Raises:
        EnvelopeError, PeerRecordError: not an envelope, or not one with a peer record.
        SignatureError: the signature does not match.
        PeerRecordSignerError: it is signed by another peer.
    """
    public_key, payload = SignedEnvelope.decode(data).verify(DOMAIN, PAYLOAD_TYPE)
    record = PeerRecord.decode(payload)
    if record.peer_id != public_key.peer_id:
        raise PeerRecordSignerError(record.peer_id, public_key.peer_id)
    return record


def _decode_address_info(data: bytes) -> list[Multiaddr]:
    """Return the address in an AddressInfo, in a list; empty when we do not know its kind."""
    found = None
    for number, _wire_type, value in iter_fields(data):
        if number == _MULTIADDR:
            found = _bytes(value)
    try:
        return [Multiaddr.decode(found or b"")]
    except MultiaddrError:  # a transport that came up after us: no reason to lose the others
        return []


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ProtobufError("a field of bytes is a number")
    return value


def _field(number: int, value: bytes) -> bytes:
    return encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value
