"""The one message of the DHT's protocol, for requests and for answers: encode, decode, limits.

    Message { type=1; key=2; record=3; closerPeers=8 repeated Peer; providerPeers=9 repeated Peer; clusterLevelRaw=10 }
    Peer    { id=1; addrs=2 repeated; connection=3 }
    Record  { key=1; value=2; timeReceived=5 }

`connection` and `clusterLevelRaw` are nobody's business any more: skipped when read, never written. A peer whose id we
cannot read is skipped, and so is an address: whoever is newer than we are does not spoil a whole answer.

Spec: https://github.com/libp2p/specs/blob/master/kad-dht/README.md#rpc-messages
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ipvcs.errors import DecodeError, RemoteProtocolError
from ipvcs.multiformats.multiaddr import Multiaddr, MultiaddrError
from ipvcs.multiformats.peer_id import PeerId, PeerIdError
from ipvcs.node.network.addresses import without_peer
from ipvcs.node.network.interface import PeerInfo
from ipvcs.objects.protobuf import BYTES, VARINT, encode_varint, iter_fields

MAX_MESSAGE: Final = 4 * 1024 * 1024
"""Bytes of an answer. As go-libp2p, whose answers hold every provider it knows."""
MAX_REQUEST: Final = 16 * 1024
"""Bytes of a request. The largest is an IPNS record (10 KiB), or a provider with every address it has; strangers send
these unasked, on thousands of streams, so four megabytes for each would be too much to hold."""
MAX_PEERS: Final = 100
"""Peers read from each of the two lists. An honest list of closer peers has k = 20."""
MAX_ADDRS: Final = 32
"""Addresses read of one peer. An honest peer with many interfaces, transports and relays has about twenty."""
MAX_ADDR_LENGTH: Final = 512
"""Bytes; a longer address is skipped. As in identify."""
MAX_ADDR_BYTES: Final = 2 * 1024
"""Of all addresses of one peer; what is beyond is skipped. Twenty of an honest peer, some by relays with two peer ids,
have about 1 KiB; a lookup keeps hundreds of peers."""
_MAX_FIELDS: Final = 1024
"""Fields looked at in a message, and 1/8 of it in a peer. Four megabytes of empty fields would take seconds to walk
through. Lists come last, so what is cut off is the rest of one that is longer than we read anyway."""

_TYPE: Final = 1
_KEY: Final = 2
_RECORD: Final = 3
_CLOSER_PEERS: Final = 8
_PROVIDER_PEERS: Final = 9


class KadMessageError(RemoteProtocolError):
    """The peer's message is not one of the DHT's."""


class MessageType(IntEnum):
    """What is asked; an answer has the type of its request."""

    PUT_VALUE = 0
    GET_VALUE = 1
    ADD_PROVIDER = 2
    GET_PROVIDERS = 3
    FIND_NODE = 4
    PING = 5


@dataclass(frozen=True, slots=True)
class Record:
    """A value under its whole key, both binary. `time_received` is RFC 3339 and nobody's proof of anything."""

    key: bytes
    value: bytes
    time_received: str = ""


@dataclass(frozen=True, slots=True)
class KadMessage:
    """A request or an answer. Of peers nothing is proved; their addresses carry no `/p2p` of their own."""

    type: MessageType
    key: bytes = b""
    record: Record | None = None
    closer_peers: tuple[PeerInfo, ...] = ()
    provider_peers: tuple[PeerInfo, ...] = ()


def decode_message(data: bytes) -> KadMessage:
    """Read a message without its length.

    Raises:
        KadMessageError: not protobuf, a type that does not exist, or a field of the wrong kind.
    """
    kind = 0
    single: dict[int, bytes] = {}
    peers: dict[int, dict[PeerId, PeerInfo]] = {_CLOSER_PEERS: {}, _PROVIDER_PEERS: {}}
    read = dict.fromkeys(peers, 0)
    try:
        for number, value in _iter_known(data, _MAX_FIELDS):
            if number == _TYPE:
                if not isinstance(value, int):
                    raise KadMessageError("the type of the peer's message is not a number")
                kind = value
            elif number in (_KEY, _RECORD, _CLOSER_PEERS, _PROVIDER_PEERS):
                if not isinstance(value, bytes):
                    raise KadMessageError(f"field {number} of the peer's message is a number")
                if (named := peers.get(number)) is None:
                    single[number] = value
                elif read[number] < MAX_PEERS:
                    read[number] += 1  # one that is named again or can't be read takes as long
                    if (peer := _decode_peer(value)) is not None:
                        named.setdefault(peer.peer_id, peer)
        record = _decode_record(single[_RECORD]) if _RECORD in single else None
    except DecodeError as exc:
        raise KadMessageError(f"the peer's message is malformed: {exc}") from exc
    try:
        message_type = MessageType(kind)
    except ValueError:
        raise KadMessageError(f"there is no message of type {kind}") from None
    return KadMessage(
        message_type,
        single.get(_KEY, b""),
        record,
        tuple(peers[_CLOSER_PEERS].values()),
        tuple(peers[_PROVIDER_PEERS].values()),
    )


def encode_message(message: KadMessage) -> bytes:
    """Return `message` without its length."""
    out = [encode_varint(_TYPE << 3 | VARINT), encode_varint(message.type)]
    if message.key:
        out.append(_field(_KEY, message.key))
    if message.record is not None:
        out.append(_field(_RECORD, encode_record(message.record)))
    out += (_field(_CLOSER_PEERS, _encode_peer(peer)) for peer in message.closer_peers)
    out += (_field(_PROVIDER_PEERS, _encode_peer(peer)) for peer in message.provider_peers)
    return b"".join(out)


def decode_record(data: bytes) -> Record:
    """Read a record. Raises KadMessageError: not protobuf, or a field of the wrong kind."""
    try:
        return _decode_record(data)
    except DecodeError as exc:
        raise KadMessageError(f"the peer's record is malformed: {exc}") from exc


def encode_record(record: Record) -> bytes:
    """Return the protobuf message of `record`."""
    out = _field(1, record.key) + _field(2, record.value)
    return out + _field(5, record.time_received.encode()) if record.time_received else out


def _decode_record(data: bytes) -> Record:
    fields = {1: b"", 2: b"", 5: b""}
    for number, value in _iter_known(data, _MAX_FIELDS):
        if number in fields:
            if not isinstance(value, bytes):
                raise KadMessageError(f"field {number} of the peer's record is a number")
            fields[number] = value
    return Record(fields[1], fields[2], fields[5].decode(errors="replace"))


def _decode_peer(data: bytes) -> PeerInfo | None:
    """Return the peer that `data` names, with the addresses that we can read; None when it is nobody."""
    raw_id = b""
    addrs: list[bytes] = []
    room = MAX_ADDR_BYTES
    try:
        for number, value in _iter_known(data, _MAX_FIELDS // 8):
            if number == 1 and isinstance(value, bytes):
                raw_id = value
            elif number == 2 and isinstance(value, bytes) and len(value) <= min(MAX_ADDR_LENGTH, room):
                room -= len(value)
                addrs.append(value)
        peer_id = PeerId.decode(raw_id)
    except (DecodeError, PeerIdError):
        return None
    return PeerInfo(peer_id, tuple(dict.fromkeys(_iter_addrs(addrs[:MAX_ADDRS], peer_id))))


def _iter_addrs(addrs: list[bytes], peer_id: PeerId) -> Iterator[Multiaddr]:
    for raw in addrs:
        try:
            addr = without_peer(Multiaddr.decode(raw), peer_id)
        except MultiaddrError:
            continue
        if addr is not None:
            yield addr


def _encode_peer(peer: PeerInfo) -> bytes:
    return _field(1, peer.peer_id.raw) + b"".join(_field(2, addr.raw) for addr in peer.addrs)


def _iter_known(data: bytes, limit: int) -> Iterator[tuple[int, int | bytes]]:
    """Yield (number, value) of the first `limit` fields."""
    for index, (number, _wire_type, value) in enumerate(iter_fields(data)):
        if index >= limit:
            return
        yield number, value


def _field(number: int, value: bytes) -> bytes:
    return encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value
