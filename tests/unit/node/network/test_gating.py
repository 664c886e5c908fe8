"""Who is refused, when, and why."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import UsageError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.addresses import tcp_addr
from ipvcs.node.network.gating import Gate, GateRuleError, parse_rule
from tests.strategies import multiaddrs, peer_ids

ALICE, BOB = (PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes([number]) * 32) for number in (1, 2))


def at(ip: str) -> Multiaddr:
    return Multiaddr.parse(f"/ip{6 if ':' in ip else 4}/{ip}/tcp/4001")


@given(peer_id=peer_ids(), addr=multiaddrs())
def test_without_rules_everything_is_allowed(peer_id: PeerId, addr: Multiaddr) -> None:
    gate = Gate()
    assert gate.why_not_dial(peer_id, addr) is gate.why_not_accept(addr) is gate.why_not_stay(peer_id) is None


@pytest.mark.parametrize("text", [str(ALICE), f"/p2p/{ALICE}", f"/ipfs/{ALICE}", ALICE.to_base36()])
def test_a_denied_peer_is_neither_dialled_nor_kept_but_cannot_be_told_at_the_door(text: str) -> None:
    gate = Gate.parse(deny=[text])
    assert gate.why_not_dial(ALICE, at("1.2.3.4")) == gate.why_not_stay(ALICE) == f"the peer {ALICE} is denied"
    assert gate.why_not_accept(at("1.2.3.4")) is None
    assert gate.why_not_dial(BOB, at("1.2.3.4")) is gate.why_not_stay(BOB) is None


def test_a_denied_range_is_neither_dialled_nor_let_in() -> None:
    gate = Gate.parse(deny=["/ip4/10.0.0.0/ipcidr/8", "/ip6/fd00::/ipcidr/8", "/ip4/1.2.3.4"])
    for ip, denied in [
        ("10.0.0.0", "10.0.0.0/8"), ("10.255.255.255", "10.0.0.0/8"), ("::ffff:10.1.1.1", "10.0.0.0/8"),
        ("fd12::1", "fd00::/8"), ("1.2.3.4", "1.2.3.4/32"),
    ]:  # fmt: skip
        assert gate.why_not_dial(ALICE, at(ip)) == gate.why_not_accept(at(ip)) == f"addresses in {denied} are denied"
        assert gate.why_not_dial(None, at(ip)) is not None
    for ip in ("9.255.255.255", "11.0.0.0", "fc00::1", "1.2.3.5", "::a00:1"):
        assert gate.why_not_dial(ALICE, at(ip)) is gate.why_not_accept(at(ip)) is None
    assert gate.why_not_accept(Multiaddr.parse("/dns4/ten.example/tcp/1")) is None


def test_an_allowed_peer_is_dialled_wherever_it_is_and_kept() -> None:
    gate = Gate.parse(deny=["/ip4/0.0.0.0/ipcidr/0", "/ip6/::/ipcidr/0", str(ALICE)], allow=[str(ALICE)])
    assert gate.why_not_dial(ALICE, at("10.0.0.1")) is gate.why_not_stay(ALICE) is None
    assert gate.why_not_dial(BOB, at("10.0.0.1")) == "addresses in 0.0.0.0/0 are denied"
    assert gate.why_not_dial(BOB, at("2606:4700::1")) == "addresses in ::/0 are denied"
    assert gate.why_not_accept(at("10.0.0.1")) == "addresses in 0.0.0.0/0 are denied"


def test_an_allowed_range_overrides_a_denied_one_but_not_a_denied_peer() -> None:
    gate = Gate.parse(deny=["/ip4/10.0.0.0/ipcidr/8", str(ALICE)], allow=["/ip4/10.1.0.0/ipcidr/16"])
    assert gate.why_not_accept(at("10.1.2.3")) is gate.why_not_dial(BOB, at("10.1.2.3")) is None
    assert gate.why_not_accept(at("10.2.2.3")) is not None
    assert gate.why_not_dial(ALICE, at("10.1.2.3")) == f"the peer {ALICE} is denied"


@given(ip=st.ip_addresses(v=4), bits=st.integers(0, 32), other=st.ip_addresses(v=4))
def test_a_range_holds_exactly_the_addresses_that_share_its_bits(
    ip: IPv4Address, bits: int, other: IPv4Address
) -> None:
    gate = Gate.parse(deny=[f"/ip4/{ip}/ipcidr/{bits}"])
    assert gate.why_not_accept(tcp_addr(ip, 1)) is not None
    shares = int(ip) >> (32 - bits) == int(other) >> (32 - bits)
    assert (gate.why_not_accept(tcp_addr(other, 1)) is not None) == shares


def test_bits_behind_the_prefix_do_not_matter() -> None:
    assert str(parse_rule("/ip4/192.168.7.9/ipcidr/16")) == "192.168.0.0/16"
    assert str(parse_rule("/ip6/::ffff:10.1.2.3/ipcidr/104")) == "10.0.0.0/8"
    assert str(parse_rule("/ip6/2606:4700::1")) == "2606:4700::1/128"


@pytest.mark.parametrize(
    "text",
    [
        "", "10.0.0.0/8", "/ip4/10.0.0.0/ipcidr/33", "/ip6/::1/ipcidr/129", "/ip6/::ffff:1.2.3.4/ipcidr/95",
        "/ip4/10.0.0.0/tcp/4001", "/ip4/10.0.0.0/ipcidr", "/ip4/10.0.0.0/ipcidr/x", "/dns4/example.com",
        "/ip4/10.0.0.0/ipcidr/8/tcp/1", "/ipcidr/8", "/ip6zone/eth0/ip6/fe80::1", "12D3KooWnot", "x" * 3000,
        f"/ip4/1.2.3.4/p2p/{ALICE}",
    ],
)  # fmt: skip
def test_what_is_no_rule_is_a_usage_error_with_a_hint(text: str) -> None:
    with pytest.raises(GateRuleError) as caught:
        Gate.parse(allow=[text])
    assert isinstance(caught.value, UsageError)
    assert caught.value.text == text
    assert caught.value.hint
    assert len(str(caught.value)) < 800
