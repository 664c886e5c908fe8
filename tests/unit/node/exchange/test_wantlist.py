"""What a peer is told of what we want, however sessions change their minds."""

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.cid import Cid
from ipvcs.node.exchange.messages import WantEntry, WantType
from ipvcs.node.exchange.wantlist import PeerWantlist
from ipvcs.objects.block import Block

A, B, C = (Block.of(name).cid for name in (b"a", b"b", b"c"))


def taken(wantlist: PeerWantlist, *, presences: bool = True) -> list[tuple[Cid, str]]:
    entries, _full = wantlist.take(presences=presences)
    return [(entry.cid, "cancel" if entry.cancel else entry.type.name.lower()) for entry in entries]


def test_wants_travel_together_in_order_and_the_first_message_is_the_whole_list() -> None:
    wantlist = PeerWantlist()
    wantlist.ask(1, A, WantType.BLOCK)
    wantlist.ask(1, B, WantType.HAVE)
    entries, full = wantlist.take()
    assert full
    assert [(entry.cid, entry.type, entry.send_dont_have) for entry in entries] == [
        (A, WantType.BLOCK, True),
        (B, WantType.HAVE, True),
    ]
    assert entries[0].priority > entries[1].priority
    wantlist.ask(1, C, WantType.BLOCK)
    assert wantlist.take() == ([WantEntry(C, WantType.BLOCK, entries[1].priority - 1, send_dont_have=True)], False)
    assert not wantlist.has_changes


def test_what_two_sessions_want_is_told_once_and_forgotten_with_the_second() -> None:
    wantlist = PeerWantlist()
    wantlist.ask(1, A, WantType.BLOCK)
    wantlist.ask(2, A, WantType.BLOCK)
    assert taken(wantlist) == [(A, "block")]
    wantlist.drop(1, A)
    assert not wantlist.has_changes
    wantlist.drop(2, A)
    assert taken(wantlist) == [(A, "cancel")]


def test_a_want_for_the_block_replaces_one_for_the_knowledge_and_not_the_other_way_round() -> None:
    wantlist = PeerWantlist()
    wantlist.ask(1, A, WantType.HAVE)
    assert taken(wantlist) == [(A, "have")]
    wantlist.ask(1, A, WantType.BLOCK)
    assert taken(wantlist) == [(A, "block")]
    wantlist.ask(2, A, WantType.HAVE)
    assert not wantlist.has_changes


def test_what_was_never_told_needs_no_cancel() -> None:
    wantlist = PeerWantlist()
    wantlist.ask(1, A, WantType.BLOCK)
    wantlist.drop(1, A)
    assert not wantlist.has_changes
    assert wantlist.take() == ([], False)


def test_a_cancel_that_was_not_sent_yet_is_taken_back() -> None:
    wantlist = PeerWantlist()
    wantlist.ask(1, A, WantType.BLOCK)
    wantlist.take()
    wantlist.drop(1, A)
    wantlist.ask(2, A, WantType.BLOCK)
    assert not wantlist.has_changes


def test_after_the_block_came_there_is_nothing_to_tell() -> None:
    wantlist = PeerWantlist()
    wantlist.ask(1, A, WantType.BLOCK)
    wantlist.take()
    wantlist.fulfilled(1, A)
    wantlist.drop(1, A)
    assert not wantlist.has_changes
    assert len(wantlist) == 0


def test_asking_again_cancels_first_and_wants_in_the_next_message() -> None:
    """js-ipfs-bitswap ignores a want that it has answered, unless a CANCEL comes in between."""
    wantlist = PeerWantlist()
    wantlist.ask(1, A, WantType.BLOCK)
    wantlist.take()
    wantlist.ask_again(A)
    assert taken(wantlist) == [(A, "cancel")]
    assert taken(wantlist) == [(A, "block")]
    assert not wantlist.has_changes


def test_a_new_connection_is_told_everything_and_no_cancels() -> None:
    wantlist = PeerWantlist()
    for cid in (A, B):
        wantlist.ask(1, cid, WantType.BLOCK)
    wantlist.take()
    wantlist.drop(1, A)
    wantlist.reconnected()
    entries, full = wantlist.take()
    assert full
    assert [entry.cid for entry in entries] == [B]


def test_a_peer_without_presences_is_asked_for_blocks_alone() -> None:
    wantlist = PeerWantlist()
    wantlist.ask(1, A, WantType.HAVE)
    entries, _full = wantlist.take(presences=False)
    assert [(entry.type, entry.send_dont_have) for entry in entries] == [(WantType.BLOCK, False)]
    wantlist.ask(1, A, WantType.BLOCK)
    assert not wantlist.has_changes


def test_one_message_takes_no_more_than_it_may() -> None:
    wantlist = PeerWantlist()
    cids = [Block.of(b"%d" % number).cid for number in range(100)]
    for cid in cids:
        wantlist.ask(1, cid, WantType.BLOCK)
    told: list[Cid] = []
    while wantlist.has_changes:
        entries, full = wantlist.take(max_bytes=500)
        assert full == (not told)
        assert 0 < len(entries) < 20
        told += [entry.cid for entry in entries]
    assert told == cids


_STEPS = st.one_of(
    st.tuples(st.just("ask"), st.integers(1, 2), st.sampled_from([A, B, C]), st.sampled_from(WantType)),
    st.tuples(st.just("drop"), st.integers(1, 2), st.sampled_from([A, B, C])),
    st.tuples(st.just("fulfilled"), st.integers(1, 2), st.sampled_from([A, B, C])),
    st.tuples(st.just("ask_again"), st.sampled_from([A, B, C])),
    st.tuples(st.just("take")),
    st.tuples(st.just("reconnected")),
)


@given(st.lists(_STEPS, max_size=40))
def test_what_the_peer_knows_at_the_end_is_what_is_wanted(steps: list[tuple[object, ...]]) -> None:
    wantlist = PeerWantlist()
    wanted: dict[Cid, tuple[WantType, set[int]]] = {}
    peer: dict[Cid, WantType] = {}

    def deliver() -> None:
        entries, full = wantlist.take()
        if full:
            peer.clear()
        assert len({entry.cid for entry in entries}) == len(entries), "a CID twice in one message"
        for entry in entries:
            if entry.cancel:
                peer.pop(entry.cid, None)
            else:
                peer[entry.cid] = entry.type

    for name, *args in steps:
        if name == "take":
            deliver()
            continue
        getattr(wantlist, str(name))(*args)
        if name == "ask":
            holder, cid, kind = args
            assert isinstance(holder, int)
            assert isinstance(cid, Cid)
            assert isinstance(kind, WantType)
            before = wanted.get(cid)
            wanted[cid] = (min(kind, before[0]) if before else kind, (before[1] if before else set()) | {holder})
        elif name == "drop":
            holder, cid = args
            assert isinstance(holder, int)
            assert isinstance(cid, Cid)
            if cid in wanted:
                wanted[cid][1].discard(holder)
                if not wanted[cid][1]:
                    del wanted[cid]
        elif name == "fulfilled":
            holder, cid = args
            assert isinstance(cid, Cid)
            if cid in wanted:
                wanted[cid][1].discard(holder)
                if not wanted[cid][1]:
                    del wanted[cid]
            peer.pop(cid, None)  # it forgets what it has sent
        elif name == "reconnected":
            peer.clear()
    while wantlist.has_changes:
        deliver()
    assert peer == {cid: kind for cid, (kind, _holders) in wanted.items()}


def test_a_cancel_that_was_lost_with_its_stream_is_told_again() -> None:
    wantlist = PeerWantlist()
    wantlist.ask(1, A, WantType.BLOCK)
    wantlist.take()
    wantlist.drop(1, A)
    assert taken(wantlist) == [(A, "cancel")]
    wantlist.reconnected()  # it did not arrive
    assert wantlist.take() == ([WantEntry(A, cancel=True)], True), "and it is `full`: it replaces all that was known"
    assert not wantlist.has_changes


def test_a_cancel_is_not_forgotten_when_the_stream_for_it_fails_twice() -> None:
    wantlist = PeerWantlist()
    wantlist.ask(1, A, WantType.BLOCK)
    wantlist.take()
    wantlist.drop(1, A)
    wantlist.reconnected()
    wantlist.reconnected()
    assert wantlist.take() == ([WantEntry(A, cancel=True)], True)


def test_after_a_reconnection_what_is_wanted_now_replaces_what_was_cancelled() -> None:
    wantlist = PeerWantlist()
    wantlist.ask(1, A, WantType.BLOCK)
    wantlist.take()
    wantlist.drop(1, A)
    wantlist.ask(1, B, WantType.BLOCK)
    wantlist.reconnected()
    entries, full = wantlist.take()
    assert ([entry.cid for entry in entries], full) == ([B], True)
