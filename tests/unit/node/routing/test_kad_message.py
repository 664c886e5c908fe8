import json
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.addresses import with_peer
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.kad_message import (
    MAX_ADDR_BYTES,
    MAX_ADDRS,
    MAX_PEERS,
    KadMessage,
    KadMessageError,
    MessageType,
    Record,
    decode_message,
    decode_record,
    encode_message,
    encode_record,
)
from tests.fakes.memory_network import key_of
from tests.strategies import multiaddrs, peer_ids

VECTORS = Path("tests/vectors/kad-dht")
PEER = key_of("somebody").peer_id
ADDR = Multiaddr.parse("/ip4/127.0.0.1/tcp/4001")


def field(number: int, value: bytes) -> bytes:
    assert len(value) < 0x4000
    return bytes((number << 3 | 2, len(value) & 0x7F | 0x80, len(value) >> 7)) + value


@pytest.mark.parametrize(
    ("name", "kind", "key"),
    [
        ("msg-1", MessageType.FIND_NODE, b"/v/hello"),
        ("msg-2", MessageType.PUT_VALUE, b"/v/hello"),
        ("msg-3", None, None),
        ("msg-4", MessageType.FIND_NODE, None),
        ("msg-5", None, None),
        ("msg-6", None, None),
        ("msg-7", MessageType.ADD_PROVIDER, None),
        ("msg-8", None, None),
    ],
)
def test_messages_of_go_are_read(name: str, kind: MessageType | None, key: bytes | None) -> None:
    data = (VECTORS / name).read_bytes()
    message = decode_message(data)
    assert kind is None or message.type is kind
    assert key is None or message.key == key
    assert decode_message(encode_message(message)) == message


def test_records_and_providers_of_go_are_read() -> None:
    put = decode_message((VECTORS / "msg-2").read_bytes())
    assert put.record == Record(b"/v/hello", b"world")
    add = decode_message((VECTORS / "msg-7").read_bytes())
    (provider,) = add.provider_peers
    assert provider.peer_id.raw[:4].hex() == "122090c9"
    assert add.key[:2] == b"\x12\x20"


def test_what_go_writes_we_write() -> None:
    """But for the end, an empty `clusterLevelRaw`."""
    for name in ("msg-1", "msg-4", "msg-7"):
        data = (VECTORS / name).read_bytes()
        message = decode_message(data)
        if name == "msg-7":  # its address, 127.0.0.1:1788, is written as it was read
            assert message.provider_peers[0].addrs
        assert encode_message(message) == data.removesuffix(b"P\0")


def test_the_obsolete_author_of_a_record_is_skipped() -> None:
    raw = bytes.fromhex(json.loads((VECTORS / "libp2p_record_go.json").read_text())["serialized"])
    assert decode_record(raw) == Record(b"hello", b"world")
    assert encode_record(Record(b"hello", b"world")) == raw[:14]


def infos() -> st.SearchStrategy[PeerInfo]:
    addrs = st.lists(multiaddrs().filter(lambda addr: addr.peer_id is None and len(addr.raw) <= 512), max_size=4)
    return st.builds(lambda peer, addrs: PeerInfo(peer, tuple(dict.fromkeys(addrs))), peer_ids(), addrs)


def messages() -> st.SearchStrategy[KadMessage]:
    peers = st.lists(infos(), max_size=4, unique_by=lambda peer: peer.peer_id).map(tuple)
    records = st.builds(Record, st.binary(max_size=40), st.binary(max_size=40), st.text(max_size=20))
    return st.builds(
        KadMessage, st.sampled_from(MessageType), st.binary(max_size=60), st.none() | records, peers, peers
    )


def test_peers_that_cant_be_read_or_come_again_count_for_the_bound() -> None:
    last = encode_message(KadMessage(MessageType.FIND_NODE, closer_peers=(PeerInfo(PEER, (ADDR,)),)))[2:]
    nobody, other = field(8, field(1, b"nobody")), field(8, field(1, key_of("other").peer_id.raw))
    for first in (nobody, other):
        start = b"\x08\x04" + first * (MAX_PEERS - 1)
        assert PEER in {peer.peer_id for peer in decode_message(start + last).closer_peers}
        assert PEER not in {peer.peer_id for peer in decode_message(start + first + last).closer_peers}


def test_addresses_of_one_peer_are_bounded_in_bytes_and_those_that_fit_are_read() -> None:
    long = [Multiaddr.parse(f"/dns4/{number}{'x' * 400}.example/tcp/1") for number in range(10)]
    message = KadMessage(MessageType.FIND_NODE, closer_peers=(PeerInfo(PEER, (*long, ADDR)),))
    (peer,) = decode_message(encode_message(message)).closer_peers
    assert peer.addrs == (*long[:4], ADDR)
    assert sum(len(addr.raw) for addr in peer.addrs) <= MAX_ADDR_BYTES


@given(messages())
def test_decode_after_encode_is_the_identity(message: KadMessage) -> None:
    assert decode_message(encode_message(message)) == message


@given(st.binary(max_size=300))
def test_garbage_is_an_error_or_a_message_and_never_a_crash(data: bytes) -> None:
    try:
        message = decode_message(data)
    except KadMessageError:
        return
    assert decode_message(encode_message(message)) == message


@given(messages(), st.data())
def test_a_damaged_message_is_an_error_or_a_message(message: KadMessage, data: st.DataObject) -> None:
    raw = bytearray(encode_message(message))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with suppress(KadMessageError):
        decode_message(bytes(raw))


def test_keys_need_not_be_text() -> None:
    message = KadMessage(MessageType.GET_VALUE, b"/ipns/\xff\xfe\0", Record(b"/ipns/\xff\xfe\0", b"\x80"))
    assert decode_message(encode_message(message)) == message


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x06",  # a type that does not exist
        b"\x0a\x00",  # the type as bytes
        b"\x10\x01",  # the key as a number
        b"\x1a\x02\x08\x01",  # a record whose key is a number
        b"\x12\x05abc",  # cut short
    ],
)
def test_messages_of_the_wrong_shape_are_refused(data: bytes) -> None:
    with pytest.raises(KadMessageError):
        decode_message(data)


def test_a_peer_or_an_address_that_cannot_be_read_does_not_spoil_the_rest() -> None:
    good = field(1, PEER.raw) + field(2, b"\xff\xff\xff") + field(2, ADDR.raw) + field(2, b"")
    data = b"\x08\x04" + field(8, field(1, b"nobody")) + field(8, b"\xff") + field(8, b"") + field(8, good)
    assert decode_message(data).closer_peers == (PeerInfo(PEER, (ADDR,)),)


def test_an_address_loses_the_id_of_its_peer_and_one_of_somebody_else_is_skipped() -> None:
    other = key_of("other").peer_id
    peer = field(1, PEER.raw) + field(2, with_peer(ADDR, other).raw) + field(2, with_peer(ADDR, PEER).raw)
    assert decode_message(field(9, peer)).provider_peers == (PeerInfo(PEER, (ADDR,)),)


def test_no_more_peers_and_addresses_are_read_than_we_want() -> None:
    many = b"".join(field(2, Multiaddr.parse(f"/ip4/1.2.3.4/tcp/{port}").raw) for port in range(1, 100))
    ids = [PeerId.from_public_key(index.to_bytes(4, "big")) for index in range(300)]
    data = b"\x08\x04" + b"".join(field(8, field(1, peer.raw) + many) for peer in ids)
    peers = decode_message(data).closer_peers
    assert [peer.peer_id for peer in peers] == ids[:MAX_PEERS]
    assert {len(peer.addrs) for peer in peers} == {MAX_ADDRS}


def test_four_megabytes_of_nothing_are_not_walked_through() -> None:
    data = b"\x08\x04" + b"\x52\x00" * (2 * 1024 * 1024 - 1)
    start = time.process_time()
    decode_message(data)
    assert time.process_time() - start < 0.5
