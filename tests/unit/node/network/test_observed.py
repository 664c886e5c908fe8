"""What others say our address is, and when we believe it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network import observed as observed_module
from ipvcs.node.network.interface import Direction
from ipvcs.node.network.observed import CONFIRMATIONS, LIFETIME, MAX_ADDRESSES, MAX_VOTES, ObservedAddresses
from tests.strategies import multiaddrs

M = Multiaddr.parse
LISTEN = (M("/ip4/0.0.0.0/tcp/4001"), M("/ip6/::/tcp/4001"))
HOME = "/ip4/80.1.2.3/tcp/4001"
FORWARDED = "/ip4/80.1.2.3/tcp/5001"


def peer(number: int) -> PeerId:
    return PeerId.from_public_key(b"\x08\x01\x12\x20" + number.to_bytes(32, "big"))


def at(number: int) -> str:
    return f"/ip4/50.0.{number >> 8}.{number & 255}/tcp/4001"


def say(
    book: ObservedAddresses,
    number: int,
    observed: str,
    *,
    remote: str | None = None,
    local: str = "/ip4/192.168.1.5/tcp/4001",
    direction: Direction = "inbound",
    listen: tuple[Multiaddr, ...] = LISTEN,
    now: float = 0,
) -> bool:
    return book.record(
        M(observed),
        observer=peer(number),
        remote_addr=M(remote or at(number)),
        local_addr=M(local),
        direction=direction,
        listen_addrs=listen,
        now=now,
    )


def confirmed(book: ObservedAddresses, now: float = 0) -> list[str]:
    return [str(addr) for addr in book.confirmed(now)]


def test_an_address_is_believed_when_four_observers_agree_on_it() -> None:
    book = ObservedAddresses()
    for number in range(CONFIRMATIONS):
        assert confirmed(book) == []
        assert say(book, number, FORWARDED)
    assert confirmed(book) == [FORWARDED]


def test_peers_behind_one_address_are_one_observer() -> None:
    book = ObservedAddresses()
    for number in range(100):
        say(book, number, HOME, remote=f"/ip4/50.0.0.1/tcp/{4001 + number}")
    assert confirmed(book) == []
    assert len(book._votes) == 1


def test_ipv6_observers_count_by_56_bits() -> None:
    book = ObservedAddresses()
    for number in range(100):
        say(
            book,
            number,
            "/ip6/2606:4700::9/tcp/4001",
            remote=f"/ip6/2a00::{number:x}/tcp/1",
            local="/ip6/2606::1/tcp/4001",
        )
    assert confirmed(book) == []
    for number in range(CONFIRMATIONS):
        say(book, 0, "/ip6/2606:4700::9/tcp/4001", remote=f"/ip6/2a0{number}::/tcp/1", local="/ip6/2606::1/tcp/4001")
    assert confirmed(book) == ["/ip6/2606:4700::9/tcp/4001"]


@pytest.mark.parametrize(
    ("observed", "remote", "local"),
    [
        ("/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/50000", "/ip4/127.0.0.1/tcp/4001"),
        ("/ip4/10.0.0.9/tcp/4001", "/ip4/10.0.0.1/tcp/50000", "/ip4/172.17.0.2/tcp/4001"),
    ],
)
def test_on_loopback_and_in_private_networks_observers_count_by_peer(observed: str, remote: str, local: str) -> None:
    book = ObservedAddresses()
    for number in range(CONFIRMATIONS):
        assert confirmed(book) == []
        assert say(book, number, observed, remote=remote, local=local)
        assert say(book, 0, observed, remote=remote, local=local)
    assert confirmed(book) == [observed]


def test_a_vote_counts_for_forty_minutes_and_may_be_renewed() -> None:
    book = ObservedAddresses()
    for number in range(CONFIRMATIONS):
        say(book, number, HOME, now=number)
    assert confirmed(book, LIFETIME - 1) == [HOME]
    say(book, 0, HOME, now=LIFETIME - 1)
    assert confirmed(book, LIFETIME) == [HOME]
    assert confirmed(book, LIFETIME + 1) == []
    assert len(book._votes) == 3


def test_an_observer_that_changes_its_mind_has_one_vote() -> None:
    book = ObservedAddresses()
    for number in range(CONFIRMATIONS):
        say(book, number, HOME)
    say(book, 0, FORWARDED)
    assert confirmed(book) == []


def test_a_peer_that_we_dialled_teaches_the_ip_for_each_of_our_ports() -> None:
    book = ObservedAddresses()
    listen = (*LISTEN, M("/ip4/192.168.1.5/tcp/4002"), M("/ip4/127.0.0.1/tcp/4003"), M("/ip4/0.0.0.0/udp/4004/quic-v1"))
    for number in range(CONFIRMATIONS):
        say(book, number, f"/ip4/80.1.2.3/tcp/{40000 + number}", local="/ip4/192.168.1.5/tcp/33333",
            direction="outbound", listen=listen)  # fmt: skip
    assert confirmed(book) == ["/ip4/80.1.2.3/tcp/4001", "/ip4/80.1.2.3/tcp/4002"]


def test_what_was_dialled_beats_the_guess() -> None:
    book = ObservedAddresses()
    for number in range(2 * CONFIRMATIONS):
        say(book, number, HOME, direction="outbound")
    assert confirmed(book) == [HOME]
    for number in range(CONFIRMATIONS):
        say(book, number, FORWARDED)
    assert confirmed(book) == [FORWARDED]


@pytest.mark.parametrize(
    ("observed", "extra"),
    [
        ("/ip4/192.168.1.5/tcp/4001", {}),
        ("/ip4/127.0.0.1/tcp/4001", {}),
        ("/ip4/0.0.0.0/tcp/4001", {}),
        ("/ip4/224.0.0.1/tcp/4001", {}),
        ("/ip4/80.1.2.3/tcp/0", {}),
        ("/ip4/80.1.2.3/udp/4001/quic-v1", {}),
        ("/ip4/80.1.2.3/tcp/4001/ws", {}),
        (f"{HOME}/p2p/{peer(9)}", {}),
        (f"{HOME}/p2p/{peer(9)}/p2p-circuit", {}),
        ("/dns4/example.com/tcp/4001", {}),
        ("/ip6/2606:4700::1/tcp/4001", {}),
        (HOME, {"remote": "/ip4/192.168.1.9/tcp/1"}),
        (HOME, {"remote": "/dns4/example.com/tcp/1"}),
        (HOME, {"local": "/ip4/192.168.1.5/tcp/4999"}),
        (HOME, {"local": "/ip6/2606::1/tcp/4001"}),
        (HOME, {"listen": ()}),
        (HOME, {"listen": (M("/ip4/127.0.0.1/tcp/4001"),)}),
        (HOME, {"listen": (M("/ip6/::/tcp/4001"), M("/ip4/0.0.0.0/udp/4001/quic-v1"))}),
        ("/ip4/169.254.1.1/tcp/4001", {"remote": "/ip4/169.254.1.2/tcp/1"}),
        ("/ip4/203.0.113.1/tcp/4001", {"remote": "/ip4/203.0.113.2/tcp/1"}),
    ],
)
def test_what_cannot_be_our_address_is_no_vote(observed: str, extra: dict[str, str]) -> None:
    book = ObservedAddresses()
    assert not say(book, 1, observed, **extra)  # type: ignore[arg-type]
    assert not book._votes


def test_of_many_confirmed_addresses_the_most_seen_are_kept() -> None:
    book = ObservedAddresses()
    number = 0
    for place in range(6):
        for _ in range(CONFIRMATIONS + place):
            say(book, number, f"/ip4/80.1.2.{place}/tcp/4001")
            number += 1
    assert confirmed(book) == [f"/ip4/80.1.2.{place}/tcp/4001" for place in (5, 4, 3)]
    assert len(confirmed(book)) == MAX_ADDRESSES


def test_the_votes_kept_are_the_newest_of_a_bounded_number() -> None:
    book = ObservedAddresses()
    for number in range(MAX_VOTES + 50):
        say(book, number, HOME)
    assert len(book._votes) == MAX_VOTES

    ports = tuple(M(f"/ip4/0.0.0.0/tcp/{port}") for port in range(1, 100))
    say(book, 0, HOME, direction="outbound", listen=ports)
    assert sum(key.direction == "outbound" for key in book._votes) == observed_module._MAX_PORTS


@given(
    observed=multiaddrs(), remote=multiaddrs(), local=multiaddrs(), direction=st.sampled_from(["inbound", "outbound"])
)
def test_no_observation_at_all_upsets_the_count(
    observed: Multiaddr, remote: Multiaddr, local: Multiaddr, direction: Direction
) -> None:
    book = ObservedAddresses()
    assert not say(
        book, 1, str(observed), remote=str(remote), local=str(local), direction=direction
    ) or len(book._votes) == 1  # fmt: skip
    assert book.confirmed(0) == ()
