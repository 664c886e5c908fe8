"""Addresses: their scope, what limits count them under, and what is dialled first."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.addresses import (
    Scope,
    dial_order,
    expand_wildcard,
    ip_group,
    ip_of,
    is_dialable_tcp,
    is_link_local,
    is_loopback,
    is_private,
    is_public,
    is_relayed,
    is_wildcard,
    needs_resolution,
    scope_of,
    scope_of_ip,
    tcp_addr,
    tcp_port,
    with_peer,
    without_peer,
)
from tests.strategies import multiaddrs, peer_ids

A = Multiaddr.parse
PEER = PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes(32))
OTHER = PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes([1]) * 32)


@pytest.mark.parametrize(
    ("ip", "scope"),
    [
        ("127.0.0.1", Scope.LOOPBACK), ("127.255.255.255", Scope.LOOPBACK), ("::1", Scope.LOOPBACK),
        ("::ffff:127.0.0.1", Scope.LOOPBACK), ("0.0.0.0", Scope.WILDCARD), ("::", Scope.WILDCARD),
        ("::ffff:0.0.0.0", Scope.WILDCARD), ("0.0.0.1", Scope.UNROUTABLE),
        ("10.255.255.255", Scope.PRIVATE), ("11.0.0.0", Scope.PUBLIC),
        ("172.15.255.255", Scope.PUBLIC), ("172.16.0.0", Scope.PRIVATE), ("172.31.255.255", Scope.PRIVATE),
        ("172.32.0.0", Scope.PUBLIC), ("192.167.255.255", Scope.PUBLIC), ("192.168.0.0", Scope.PRIVATE),
        ("100.63.255.255", Scope.PUBLIC), ("100.64.0.0", Scope.PRIVATE), ("100.128.0.0", Scope.PUBLIC),
        ("169.254.1.1", Scope.LINK_LOCAL), ("fe80::1", Scope.LINK_LOCAL), ("febf::1", Scope.LINK_LOCAL),
        ("fbff::1", Scope.PUBLIC), ("fc00::1", Scope.PRIVATE), ("fdff::1", Scope.PRIVATE),
        ("224.0.0.251", Scope.UNROUTABLE), ("ff02::1", Scope.UNROUTABLE), ("255.255.255.255", Scope.UNROUTABLE),
        ("203.0.113.9", Scope.UNROUTABLE), ("2001:db8::1", Scope.UNROUTABLE),
        ("8.8.8.8", Scope.PUBLIC), ("2606:4700::1111", Scope.PUBLIC),
    ],
)  # fmt: skip
def test_an_ip_has_the_scope_of_its_range(ip: str, scope: Scope) -> None:
    assert scope_of_ip(ip_address(ip)) is scope
    assert scope_of(A(f"/ip{ip_address(ip).version}/{ip}/tcp/4001")) is scope


def test_each_scope_has_its_question() -> None:
    ask = (is_loopback, is_link_local, is_private, is_public, is_wildcard)
    texts = ("/ip6/::1", "/ip4/169.254.0.1", "/ip4/10.0.0.1", "/ip4/1.1.1.1", "/ip4/0.0.0.0")
    for index, text in enumerate(texts):
        assert [question(A(text)) for question in ask] == [place == index for place in range(len(ask))]
    assert not any(question(A("/dns/localhost/tcp/1")) for question in ask)


@given(ip=st.ip_addresses(), port=st.integers(0, 0xFFFF))
def test_a_tcp_address_gives_back_what_it_was_made_of(ip: IPv4Address | IPv6Address, port: int) -> None:
    addr = tcp_addr(ip, port)
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None

    assert (ip_of(addr), tcp_port(addr)) == (mapped or ip, port)
    assert addr == A(f"/ip{ip.version}/{ip}/tcp/{port}")


@given(addr=multiaddrs(), peer_id=peer_ids())
def test_no_address_at_all_upsets_a_classification(addr: Multiaddr, peer_id: PeerId) -> None:
    for question in (ip_of, tcp_port, scope_of, ip_group, is_dialable_tcp, needs_resolution, is_relayed):
        question(addr)
    left = without_peer(addr, peer_id)
    assert left is None or left == Multiaddr.decode(left.raw)
    assert dial_order([addr]) == [addr]


def test_an_ip_behind_a_zone_is_found() -> None:
    addr = A("/ip6zone/eth0/ip6/fe80::1/tcp/4001")
    assert (ip_of(addr), tcp_port(addr)) == (IPv6Address("fe80::1"), 4001)


def test_addresses_without_an_ip_in_front_have_none() -> None:
    for text in ("/dns4/example.com/tcp/4001", "/tcp/4001", f"/p2p/{PEER}", "/ip6zone/eth0", "/memory/7"):
        assert (ip_of(A(text)), tcp_port(A(text)), scope_of(A(text))) == (None, None, Scope.NAME)
    assert tcp_port(A("/ip4/1.2.3.4/udp/4001")) is None


@pytest.mark.parametrize(
    ("text", "dialable"),
    [
        ("/ip4/127.0.0.1/tcp/4001", True),
        (f"/ip4/1.2.3.4/tcp/4001/p2p/{PEER}", True),
        ("/ip6/::1/tcp/4001", True),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/4001", True),
        ("/ip6/fe80::1/tcp/4001", False),
        ("/ip4/0.0.0.0/tcp/4001", False),
        ("/ip6/::/tcp/4001", False),
        ("/ip4/224.0.0.251/tcp/4001", False),
        ("/ip4/255.255.255.255/tcp/4001", False),
        ("/ip4/198.51.100.1/tcp/4001", True),
        ("/ip4/1.2.3.4/tcp/0", False),
        ("/ip4/1.2.3.4/tcp/443/wss", False),
        ("/ip4/1.2.3.4/udp/4001/quic-v1", False),
        (f"/ip4/1.2.3.4/tcp/4001/p2p/{PEER}/p2p-circuit", False),
        (f"/ip4/1.2.3.4/tcp/4001/p2p/{PEER}/p2p-circuit/p2p/{OTHER}", False),
        ("/dns4/example.com/tcp/4001", False),
        ("/ip4/1.2.3.4", False),
    ],
)
def test_only_plain_tcp_to_a_definite_place_is_dialable(text: str, dialable: bool) -> None:
    assert is_dialable_tcp(A(text)) is dialable


def test_names_in_front_need_resolution() -> None:
    for protocol in ("dns", "dns4", "dns6", "dnsaddr"):
        assert needs_resolution(A(f"/{protocol}/example.com/tcp/1"))
    assert not needs_resolution(A("/ip4/1.2.3.4/tcp/443/tls/sni/example.com/ws"))


def test_limits_count_ipv4_singly_and_ipv6_by_56_bits() -> None:
    assert ip_group(A("/ip4/1.2.3.4/tcp/1")) == ip_group(A("/ip6/::ffff:1.2.3.4/tcp/2")) == "1.2.3.4"
    assert ip_group(A("/ip6/2606:4700:0:10ff::1/tcp/1")) == "2606:4700:0:1000::/56"
    assert ip_group(A("/ip6/2606:4700:0:1000:ffff::/tcp/1")) == "2606:4700:0:1000::/56"
    assert ip_group(A("/ip6/2606:4700:0:1100::/tcp/1")) == "2606:4700:0:1100::/56"
    for text in ("/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/ip6/::ffff:127.0.0.9/tcp/1", "/dns/example.com"):
        assert ip_group(A(text)) is None


def test_only_the_peers_own_name_is_taken_off_and_only_at_the_end() -> None:
    plain = A("/ip4/1.2.3.4/tcp/4001")
    relay = A(f"/ip4/1.2.3.4/tcp/4001/p2p/{OTHER}/p2p-circuit")

    assert without_peer(with_peer(plain, PEER), PEER) == without_peer(plain, PEER) == plain
    assert without_peer(with_peer(plain, OTHER), PEER) is None
    assert without_peer(with_peer(relay, PEER), PEER) == without_peer(relay, PEER) == relay
    assert without_peer(A(f"/p2p/{PEER}"), PEER) is None
    assert without_peer(A(f"/ip4/1.2.3.4/p2p/{PEER}/tcp/1"), PEER) is None
    assert with_peer(with_peer(plain, PEER), PEER) == A(f"/ip4/1.2.3.4/tcp/4001/p2p/{PEER}")


def test_a_wildcard_becomes_the_addresses_of_its_family() -> None:
    ours = [ip_address(text) for text in ("127.0.0.1", "192.168.1.5", "::1", "2606:4700::5")]

    assert expand_wildcard(A("/ip4/0.0.0.0/tcp/4001"), ours) == (
        A("/ip4/127.0.0.1/tcp/4001"),
        A("/ip4/192.168.1.5/tcp/4001"),
    )
    assert expand_wildcard(A("/ip6/::/udp/4001/quic-v1"), ours) == (
        A("/ip6/::1/udp/4001/quic-v1"),
        A("/ip6/2606:4700::5/udp/4001/quic-v1"),
    )
    assert expand_wildcard(A("/ip4/0.0.0.0/tcp/4001"), []) == ()
    assert expand_wildcard(A("/ip4/10.0.0.1/tcp/4001"), ours) == (A("/ip4/10.0.0.1/tcp/4001"),)
    assert expand_wildcard(A("/dns/example.com/tcp/1"), ours) == (A("/dns/example.com/tcp/1"),)


LOOP, LAN, SITE, PUBLIC, LINK, NAME = (
    A(text)
    for text in (
        "/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.9/tcp/1", "/ip4/10.9.9.9/tcp/1", "/ip4/8.8.8.8/tcp/1",
        "/ip4/169.254.3.3/tcp/1", "/dns4/example.com/tcp/1",
    )
)  # fmt: skip
RELAY = A(f"/ip4/192.168.1.1/tcp/1/p2p/{OTHER}/p2p-circuit")
OURS = [ip_address(text) for text in ("127.0.0.1", "192.168.1.5", "::1")]


def test_near_addresses_are_dialled_before_far_ones_and_a_strangers_loopback_last() -> None:
    assert dial_order([RELAY, NAME, LOOP, LINK, PUBLIC, SITE, LAN, LAN], OURS) == [
        LAN, SITE, PUBLIC, LINK, NAME, LOOP, RELAY
    ]  # fmt: skip
    assert dial_order([PUBLIC, LAN, SITE]) == [LAN, SITE, PUBLIC]


def test_loopback_comes_first_for_a_peer_on_this_machine() -> None:
    here = A("/ip4/192.168.1.5/tcp/2")
    assert dial_order([here, PUBLIC, LOOP], OURS) == [LOOP, here, PUBLIC]
    through_us = A(f"/ip4/192.168.1.5/tcp/2/p2p/{OTHER}/p2p-circuit")
    assert dial_order([LOOP, PUBLIC, through_us], OURS) == [PUBLIC, LOOP, through_us]


def test_families_alternate_and_ipv6_begins() -> None:
    four = [A(f"/ip4/8.8.8.8/tcp/{port}") for port in (1, 2, 3)]
    six = [A(f"/ip6/2606:4700::1/tcp/{port}") for port in (1, 2)]
    assert dial_order(four + six) == [six[0], four[0], six[1], four[1], four[2]]


@given(addrs=st.lists(multiaddrs(), max_size=8))
def test_ordering_neither_loses_nor_invents_an_address(addrs: list[Multiaddr]) -> None:
    ordered = dial_order(addrs, OURS)
    assert sorted(ordered) == sorted(set(addrs))
