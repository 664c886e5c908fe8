import pytest

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.identity.keys import KeyType, PrivateKey, generate_key
from ipvcs.node.network.identify_message import OWN_TOTAL, IdentifyMessage, IdentifyReader
from ipvcs.node.network.own_description import OwnDescription
from ipvcs.node.network.peer_record import PeerRecord, open_record

KEY = generate_key()
LOOPBACK = Multiaddr.parse("/ip4/127.0.0.1/tcp/4001")
LOOPBACK6 = Multiaddr.parse("/ip6/::1/tcp/4001")
LAN = Multiaddr.parse("/ip4/192.168.1.2/tcp/4001")
PUBLIC = Multiaddr.parse("/ip4/1.2.3.4/tcp/4001")
WILDCARD = Multiaddr.parse("/ip4/0.0.0.0/tcp/4001")
NOW = 1_800_000_000.25


def description(*addrs: Multiaddr, key: PrivateKey = KEY, protocols: tuple[str, ...] = ("/b", "/a")) -> OwnDescription:
    own = OwnDescription(key, "ipvcs/1.0")
    assert own.update(protocols, addrs, NOW)
    return own


def told(own: OwnDescription, local: Multiaddr, remote: Multiaddr) -> tuple[IdentifyMessage, PeerRecord]:
    reader = IdentifyReader()
    reader.receive_data(own.encode_for(local, remote))
    message = reader.finish()
    assert message.signed_peer_record is not None
    return message, open_record(message.signed_peer_record)


def test_a_peer_is_told_who_we_are_what_we_serve_and_where_it_comes_from() -> None:
    message, record = told(description(PUBLIC), LAN, LAN)

    assert message.public_key == KEY.public_key.encode()
    assert message.protocols == ("/a", "/b")
    assert message.protocol_version == "ipfs/0.1.0"
    assert message.agent_version == "ipvcs/1.0"
    assert message.observed_addr == LAN
    assert message.listen_addrs == record.addrs == (PUBLIC,)
    assert record.peer_id == KEY.public_key.peer_id


@pytest.mark.parametrize(
    ("local", "remote", "expected"),
    [
        (LOOPBACK, LOOPBACK, (PUBLIC, LAN, LOOPBACK, LOOPBACK6)),
        (LAN, LOOPBACK6, (PUBLIC, LAN, LOOPBACK, LOOPBACK6)),
        (LAN, LAN, (PUBLIC, LAN)),
        (PUBLIC, PUBLIC, (PUBLIC, LAN)),
    ],
)
def test_loopback_addresses_are_for_peers_on_this_machine(
    local: Multiaddr, remote: Multiaddr, expected: tuple[Multiaddr, ...]
) -> None:
    message, record = told(description(LOOPBACK, LOOPBACK6, LAN, PUBLIC), local, remote)

    assert message.listen_addrs == record.addrs == expected


def test_a_wildcard_is_no_address_to_tell() -> None:
    assert told(description(WILDCARD, LAN), LOOPBACK, LOOPBACK)[0].listen_addrs == (LAN,)


def test_only_a_change_is_a_new_version() -> None:
    own = description(LAN, PUBLIC)
    assert own.version == 1

    assert not own.update(["/a", "/b"], [PUBLIC, LAN], NOW + 1), "another order is no news"
    assert own.version == 1
    assert own.update(["/a", "/b", "/c"], [PUBLIC, LAN], NOW + 1)
    assert own.update(["/a", "/b", "/c"], [PUBLIC], NOW + 1)
    assert own.version == 3


def test_a_host_without_anything_still_describes_itself() -> None:
    own = OwnDescription(KEY, "ipvcs/1.0")
    assert own.update([], [], NOW)
    assert told(own, LOOPBACK, LOOPBACK)[0].listen_addrs == ()


def test_sequence_numbers_grow_with_every_record_even_when_the_clock_goes_back() -> None:
    own = description(LAN)
    seqs = [told(own, LOOPBACK, LOOPBACK)[1].seq]
    seqs.append(told(own, LAN, LAN)[1].seq)
    assert told(own, LAN, LAN)[1].seq == seqs[-1], "the same record is not signed twice"
    own.update(["/a"], [PUBLIC], NOW - 1000)
    seqs.append(told(own, LAN, LAN)[1].seq)

    assert seqs[0] == int(NOW * 1e9), "nanoseconds since 1970, as go-libp2p"
    assert seqs == sorted(set(seqs))


@pytest.mark.parametrize("kind", [KeyType.ED25519, KeyType.RSA])
def test_addresses_are_left_out_from_the_least_useful_on_until_everybody_reads_it(kind: KeyType) -> None:
    public = [Multiaddr.parse(f"/dns4/host-{number}.example.com/tcp/443/tls/ws") for number in range(30)]
    private = [Multiaddr.parse(f"/ip4/10.0.0.{number}/tcp/4001") for number in range(100)]
    key = generate_key(kind)
    own = description(*private, *public, key=key, protocols=tuple(f"/a/protocol/{n}/1.0.0" for n in range(40)))

    message, record = told(own, LOOPBACK, PUBLIC)

    size = len(own.encode_for(LOOPBACK, PUBLIC))
    assert OWN_TOTAL * 3 // 4 < size <= OWN_TOTAL, "the room is used"
    assert message.listen_addrs == record.addrs
    assert message.listen_addrs == tuple((public + private)[: len(record.addrs)])
    assert len(message.protocols) == 40


def test_a_peer_seen_at_a_very_long_address_is_not_told() -> None:
    far = Multiaddr.parse(f"/dns/{'a' * 220}/tcp/1")
    message, _record = told(description(LAN), LAN, far)

    assert message.observed_addr is None
