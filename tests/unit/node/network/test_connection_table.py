"""Who is let in, who hears of it, and that each leaves once. No event loop."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.connection_table import ConnectionTable, OpenGate
from ipvcs.node.network.errors import DialError, GatedError
from ipvcs.node.network.interface import Connection, Direction
from ipvcs.node.network.limits import ConnectionLimitError, Limits
from tests.fakes.memory_network import key_of

US = key_of("us").peer_id
PEER = key_of("peer").peer_id
OTHER = key_of("other").peer_id


@dataclass(eq=True)  # equal ones are still two connections, and neither can be hashed
class FakeConnection:
    remote_peer: PeerId = PEER
    remote_addr: Multiaddr = field(default_factory=lambda: Multiaddr.parse("/ip4/1.2.3.4/tcp/4001"))
    direction: Direction = "inbound"
    is_closed: bool = False


class Rules(OpenGate):
    def __init__(self) -> None:
        self.peer: str | None = None
        self.addr: str | None = None

    def why_not_accept(self, addr: Multiaddr) -> str | None:
        return self.addr

    def why_not_stay(self, peer_id: PeerId) -> str | None:
        return self.peer


class Log:
    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def connected(self, connection: Connection) -> None:
        self.heard.append(("connected", id(connection)))

    def disconnected(self, connection: Connection) -> None:
        self.heard.append(("disconnected", id(connection)))


def connection(
    peer: PeerId = PEER, addr: str = "/ip4/1.2.3.4/tcp/4001", direction: Direction = "inbound"
) -> Connection:
    return cast(Connection, FakeConnection(peer, Multiaddr.parse(addr), direction))


def close(which: Connection) -> None:
    cast(FakeConnection, which).is_closed = True


def table(
    limits: Limits | None = None, gater: OpenGate | None = None, make_room: Callable[[], None] | None = None
) -> ConnectionTable:
    return ConnectionTable(US, limits or Limits(), gater or OpenGate(), make_room)


def test_connections_are_listed_oldest_first_and_the_oldest_live_one_is_used() -> None:
    connections = table()
    first, second, other = connection(), connection(), connection(OTHER)
    for each in (first, other, second):
        connections.admit(each)

    assert [id(each) for each in connections.connections()] == [id(first), id(other), id(second)]
    assert [id(each) for each in connections.connections(PEER)] == [id(first), id(second)]
    assert connections.oldest(PEER) is first
    close(first)
    assert connections.oldest(PEER) is second
    assert connections.connections(PEER) == [second]
    assert connections.oldest(US) is None


def test_a_connection_leaves_once_and_each_notifiee_hears_once() -> None:
    connections, log = table(), Log()
    connections.subscribe(log)
    one, equal_one = connection(), connection()
    connections.admit(one)
    connections.admit(equal_one)

    assert connections.remove(equal_one)
    assert not connections.remove(equal_one)
    assert connections.oldest(PEER) is one
    assert len(connections) == 1
    assert log.heard == [("connected", id(one)), ("connected", id(equal_one)), ("disconnected", id(equal_one))]
    assert not connections.remove(connection())  # one that was never admitted


def test_who_subscribes_late_hears_of_what_stands_and_who_unsubscribes_of_nothing() -> None:
    connections, log = table(), Log()
    standing, ended = connection(), connection(OTHER)
    connections.admit(standing)
    connections.admit(ended)
    close(ended)

    connections.subscribe(log)
    connections.unsubscribe(log)
    connections.remove(standing)

    assert log.heard == [("connected", id(standing))]


def test_a_notifiee_that_raises_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Log):
        def connected(self, connection: Connection) -> None:
            raise RuntimeError("a bug")

    connections, log = table(), Log()
    connections.subscribe(Broken())
    connections.subscribe(log)
    connections.admit(connection())

    assert [what for what, _which in log.heard] == ["connected"]
    assert "a bug" in caplog.text
    assert caplog.records[0].levelno == logging.ERROR


def test_there_is_a_limit_to_all_connections_and_idle_ones_are_asked_to_go() -> None:
    asked: list[int] = []
    connections = table(Limits(connections=2), make_room=lambda: asked.append(1))
    connections.admit(connection(PEER))
    connections.admit(connection(OTHER))

    with pytest.raises(ConnectionLimitError, match="2 connections are open"):
        connections.admit(connection(key_of("third").peer_id))
    assert asked == [1]
    with pytest.raises(ConnectionLimitError):
        connections.check_room()


def test_what_has_ended_makes_room_though_nobody_said_so_yet() -> None:
    connections, log = table(Limits(connections=1)), Log()
    connections.subscribe(log)
    first = connection(PEER)
    connections.admit(first)
    close(first)

    connections.admit(connection(OTHER))

    assert [what for what, _which in log.heard] == ["connected", "disconnected", "connected"]
    assert not connections.remove(first)


def test_there_is_a_limit_to_one_peers_connections() -> None:
    connections = table(Limits(connections_per_peer=2))
    connections.admit(connection(direction="outbound"))
    connections.admit(connection())
    with pytest.raises(ConnectionLimitError, match=str(PEER)):
        connections.admit(connection())
    connections.admit(connection(OTHER))


@pytest.mark.parametrize(
    ("addr", "same_group"),
    [("/ip4/1.2.3.4/tcp/{}", True), ("/ip6/2a00:1:2:3{:02x}::1/tcp/1", True), ("/ip6/2a00:1:{:x}::1/tcp/1", False),
     ("/ip4/127.0.0.1/tcp/{}", False), ("/ip4/1.2.3.{}/tcp/1", False)],
)  # fmt: skip
def test_there_is_a_limit_to_inbound_connections_from_one_ip(addr: str, same_group: bool) -> None:
    connections = table(Limits(connections_per_ip=3))
    inbound = [connection(key_of(str(number)).peer_id, addr.format(number)) for number in range(1, 5)]
    for each in inbound[:3]:
        connections.admit(each)

    connections.admit(connection(OTHER, addr.format(99), "outbound"))
    if same_group:
        with pytest.raises(ConnectionLimitError):
            connections.admit(inbound[3])
        connections.remove(inbound[0])
    connections.admit(inbound[3])


def test_outbound_connections_do_not_count_against_an_ip() -> None:
    connections = table(Limits(connections_per_ip=1))
    peers = [key_of(str(number)).peer_id for number in range(5)]
    outbound = [connection(peer, "/ip4/1.2.3.4/tcp/1", "outbound") for peer in peers[:3]]
    for each in outbound:
        connections.admit(each)
    inbound = connection(peers[3], "/ip4/1.2.3.4/tcp/2")
    connections.admit(inbound)  # the first that counts
    late = connection(peers[4], "/ip4/1.2.3.4/tcp/3")
    connections.remove(outbound[0])  # and gives nothing back that it did not take
    with pytest.raises(ConnectionLimitError):
        connections.admit(late)
    connections.remove(inbound)
    connections.admit(late)
    assert list(connections.connections()) == [*outbound[1:], late]


def test_the_rules_are_asked_about_the_peer_and_where_it_comes_from() -> None:
    rules = Rules()
    connections = table(gater=rules)
    rules.addr = "that network is denied"
    with pytest.raises(GatedError, match="that network is denied"):
        connections.admit(connection())
    connections.admit(connection(direction="outbound"))
    rules.addr, rules.peer = None, "that peer is denied"
    directions: tuple[Direction, ...] = ("inbound", "outbound")
    for direction in directions:
        with pytest.raises(GatedError, match="that peer is denied"):
            connections.admit(connection(direction=direction))
    assert len(connections) == 1


def test_ourselves_the_dead_and_latecomers_are_refused_and_nobody_hears_of_them() -> None:
    connections, log = table(), Log()
    connections.subscribe(log)
    dead = connection()
    close(dead)
    for each in (connection(US), dead):
        with pytest.raises(DialError):
            connections.admit(each)
    standing = connection()
    connections.admit(standing)
    assert list(connections.close()) == [standing]
    with pytest.raises(DialError, match="shutting down"):
        connections.admit(connection())
    assert [what for what, _which in log.heard] == ["connected"]


def test_every_refusal_is_an_error_of_ours_and_leaves_no_trace() -> None:
    connections = table(Limits(connections_per_ip=1, connections_per_peer=1))
    connections.admit(connection())
    for each in (connection(), connection(OTHER), connection(US)):
        with pytest.raises(IpvcsError):
            connections.admit(each)
    assert len(connections) == 1
    assert connections.connections(OTHER) == []
    connections.remove(connections.connections()[0])
    assert not connections._by_ip
    assert not connections._by_peer
    connections.admit(connection(OTHER))
