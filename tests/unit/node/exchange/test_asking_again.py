"""Wants that are told once more, because some peers forget them and some ignore what they have just answered."""

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.messages import WantType
from ipvcs.node.exchange.session import PROBES, SEARCH_INTERVAL, Session
from ipvcs.node.exchange.wantlist import PeerWantlist
from ipvcs.objects.block import Block
from tests.fakes.memory_network import key_of

BOB = key_of("bob").peer_id


def cids(count: int) -> list[Cid]:
    return [Block.of(b"%d" % number).cid for number in range(count)]


def told(wantlist: PeerWantlist) -> list[tuple[Cid, bool]]:
    """Return (CID, whether it is a CANCEL) of the next message."""
    entries, _full = wantlist.take()
    return [(entry.cid, entry.cancel) for entry in entries]


def test_a_block_that_was_received_is_cancelled_before_it_is_asked_for_again() -> None:
    wantlist, (cid,) = PeerWantlist(), cids(1)
    wantlist.ask(1, cid, WantType.BLOCK)
    assert told(wantlist) == [(cid, False)]
    wantlist.fulfilled(1, cid)
    assert not wantlist.has_changes, "the peer has forgotten it, too"

    wantlist.ask(2, cid, WantType.BLOCK)

    assert told(wantlist) == [(cid, True)]
    assert told(wantlist) == [(cid, False)], "in a message of its own: order within one is not kept by everybody"
    assert not wantlist.has_changes


def test_who_reconnects_has_forgotten_what_it_sent() -> None:
    wantlist, (cid,) = PeerWantlist(), cids(1)
    wantlist.ask(1, cid, WantType.BLOCK)
    told(wantlist)
    wantlist.fulfilled(1, cid)

    wantlist.reconnected()
    wantlist.ask(2, cid, WantType.BLOCK)

    assert told(wantlist) == [(cid, False)]


def test_what_everybody_denies_is_asked_for_again_with_each_search_but_the_first() -> None:
    wantlists: dict[PeerId, PeerWantlist] = {BOB: PeerWantlist()}
    (cid,) = cids(1)
    session = Session(1, cid, 0.0, wantlists.__getitem__)
    session.want([cid])
    session.connected(BOB, 0.0)
    session.pump(0.0)
    assert told(wantlists[BOB]) == [(cid, False)]
    session.dont_have(BOB, cid, 0.1)
    session.pump(0.1)
    assert session.next_search(0.1) == cid
    session.pump(5.0)
    assert session.next_search(5.0) is None
    assert not wantlists[BOB].has_changes

    session.pump(0.1 + SEARCH_INTERVAL)
    assert session.next_search(0.1 + SEARCH_INTERVAL) is not None

    assert told(wantlists[BOB]) == [(cid, True)]
    assert told(wantlists[BOB]) == [(cid, False)]
    session.have(BOB, cid, 11.0)
    assert session.received(BOB, cid, 100, 11.1)
    assert not session.wanted


def test_of_many_that_everybody_denies_a_few_are_asked_for_again() -> None:
    wantlists = {BOB: PeerWantlist()}
    many = cids(10 * PROBES)
    session = Session(1, many[0], 0.0, wantlists.__getitem__)
    session.want(many)
    session.connected(BOB, 0.0)
    for _ in range(10):
        session.pump(0.0)
        for cid, _cancel in told(wantlists[BOB]):
            session.dont_have(BOB, cid, 0.0)
    session.pump(0.0)

    session.next_search(0.0)
    assert not wantlists[BOB].has_changes
    session.next_search(SEARCH_INTERVAL)

    assert told(wantlists[BOB]) == [(cid, True) for cid in many[:PROBES]]
