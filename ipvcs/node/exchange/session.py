"""One fetch's strategy: which peer to ask for which block, and when to ask another.

A want waits in a queue until some peer has room for it. *Sources* are peers that have shown to have something of what
we want; each has a window of wants in flight, sized to half a second of what it delivers, and takes the next wants from
the queue whenever enough of its window is free. So fast peers fetch more, and a peer that slows down holds little back.

    queued ──assign──► asked of one source ──block──► done
       ▲                  │ DONT_HAVE, silence, disconnect
       └──────────────────┘
       │ no source, or all of them deny it
       └──probe──► HAVE? of every candidate (of one of them the block) ──nobody──► search for providers

Peers that have said nothing yet are asked, a few times, for what waits for room at a source. Near the end, when the
queue is empty, a source with nothing to do takes over what a slow one has not begun to send.

Non-goals: knowing what is wanted next (the fetch does), and sending anything (wantlists gather it, the service sends).
Time is an argument; nothing here waits.

Spec: https://specs.ipfs.tech/bitswap-protocol/; white paper §3.4
"""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.messages import WantType
from ipvcs.node.exchange.source import MAX_WANTS, MIN_IN_FLIGHT, Source
from ipvcs.node.exchange.wantlist import PeerWantlist

MAX_CANDIDATES: Final = 64
"""Connected peers that a session asks; providers that a search finds are taken beyond it, up to twice as many."""
PROBES: Final = 8
"""Wants for which everybody is asked at once: finding one source is enough to go on."""
STALL: Final = 3.0
"""Seconds without a byte from a peer that owes us something, after which others are asked for it."""
ASK_AGAIN: Final = 10.0
"""Seconds without an answer after which a peer is asked once more, doubled each time: some forget what they could not
serve at once (js-ipfs-bitswap), or lost our message with a stream."""
SEARCH_DELAY: Final = 1.0
"""Seconds without any source after which providers are searched although peers are being asked. As in go-bitswap."""
SEARCH_INTERVAL: Final = 10.0
MAX_SEARCH_INTERVAL: Final = 60.0
"""Seconds between searches while there is no source, doubled each time."""
LIST_INTERVAL: Final = 1.0
"""Seconds between looks for room on peers' lists for what nobody has."""
_USUAL_SIZE: Final = 256.0 * 1024
_GUESS: Final = 16
"""Blocks that the guess of the mean size counts as much as. The first to come are inner nodes, far smaller than leaves:
by their size alone, the first peer would be asked for hundreds of megabytes at once."""
_MAX_DENIED: Final = MAX_WANTS // 2
"""Wants up to which those that a peer denied stay on its list; the others need the rest."""
_STEAL_GAIN: Final = 0.25
"""Seconds that taking over a want must save, or it is not worth the risk of a duplicate."""


class _Want:
    __slots__ = ("asked", "denied", "queued")

    def __init__(self) -> None:
        self.asked: set[PeerId] = set()
        """Who is asked for it now: one source, or all candidates while it is probed."""
        self.denied: set[PeerId] = set()
        """Who does not have it, or did not answer."""
        self.queued = True
        """Whether it waits for a source, which it does while it is probed, too."""


class Session:
    """What one fetch wants, and of whom. See the module's picture."""

    def __init__(self, number: int, root: Cid, now: float, wantlist_of: Callable[[PeerId], PeerWantlist]) -> None:
        """Begin without wants or peers.

        Args:
            number: tells sessions apart in wantlists.
            root: what providers are searched for: whoever has the root is likely to have what it reaches.
            now: the time.
            wantlist_of: the wantlist of a connected peer.
        """
        self._number = number
        self._root = root
        self._wantlist_of = wantlist_of
        self._wants: dict[Cid, _Want] = {}
        self._queue: deque[Cid] = deque()
        self._parked: dict[Cid, None] = {}
        """Of what is queued, what every connected peer denies: it waits for another peer."""
        self._peers: dict[PeerId, Source] = {}
        self._mean_size = _USUAL_SIZE
        self._next_search = now + SEARCH_DELAY
        self._search_interval = SEARCH_INTERVAL
        self._next_listing = now
        self._searched: set[Cid] = set()
        self.blocks = 0
        self.bytes = 0
        """What was received."""

    # ---- what is wanted ----

    @property
    def wanted(self) -> int:
        """How many blocks are wanted and not here."""
        return len(self._wants)

    def wants(self, cid: Cid) -> bool:
        """Whether `cid` is wanted."""
        return cid in self._wants

    def want(self, cids: Iterable[Cid]) -> None:
        """Want `cids` behind what is wanted already."""
        for cid in cids:
            if cid not in self._wants:
                self._wants[cid] = _Want()
                self._queue.append(cid)

    def cancel_all(self) -> None:
        """Want nothing more."""
        for cid in list(self._wants):
            self._forget(cid)

    # ---- who is there ----

    @property
    def sources(self) -> int:
        """How many connected peers have shown to have something of what we want."""
        return sum(peer.is_source for peer in self._peers.values())

    @property
    def asked(self) -> int:
        """How many connected peers this session may ask."""
        return len(self._peers)

    def connected(self, peer_id: PeerId, now: float, *, provider: bool = False) -> None:
        """`peer_id` can be asked from now on."""
        if peer_id in self._peers:
            return
        if len(self._peers) >= MAX_CANDIDATES * (2 if provider else 1) and not self._make_room():
            return
        self._peers[peer_id] = Source(peer_id, now)
        self._unpark()

    def disconnected(self, peer_id: PeerId) -> None:
        """`peer_id` is gone, and its wantlist with it."""
        if self._peers.pop(peer_id, None) is None:
            return
        for cid, want in self._wants.items():
            want.asked.discard(peer_id)
            want.denied.discard(peer_id)  # it may come back with more
            self._requeue(cid, want)

    def _make_room(self) -> bool:
        """Leave alone the peer that was asked first and has nothing of what we want; False: there is none."""
        for peer_id, peer in self._peers.items():
            if not peer.is_source and (peer.is_stalled or not peer.outstanding):
                for cid, want in self._wants.items():
                    if peer_id in want.asked:
                        self._wantlist_of(peer_id).drop(self._number, cid)
                self.disconnected(peer_id)
                return True
        return False

    # ---- what they say ----

    def active(self, peer_id: PeerId, now: float) -> None:
        """Bytes arrived from `peer_id`, maybe only a part of a message."""
        if (peer := self._peers.get(peer_id)) is not None:
            peer.receiving(now)
            if peer.is_stalled:
                peer.is_stalled = False
                self._unpark()

    def have(self, peer_id: PeerId, cid: Cid, now: float) -> None:
        """`peer_id` says that it has `cid`."""
        peer, want = self._peers.get(peer_id), self._wants.get(cid)
        if peer is not None and want is not None:
            peer.is_source = True
            peer.heard = now
            want.denied.discard(peer_id)
            if cid in self._parked:
                del self._parked[cid]
                self._queue.appendleft(cid)
            if (asked := peer.outstanding.get(cid)) is not None and asked.kind is WantType.HAVE:
                del peer.outstanding[cid]  # answered; it is asked for the block if nobody else is

    def dont_have(self, peer_id: PeerId, cid: Cid, now: float) -> None:
        """`peer_id` says that it does not have `cid`."""
        peer, want = self._peers.get(peer_id), self._wants.get(cid)
        if peer is not None and want is not None:
            peer.heard = now
            peer.outstanding.pop(cid, None)
            want.denied.add(peer_id)  # the want stays on its list, if there is room: it answers if it gets the block
            if len(wantlist := self._wantlist_of(peer_id)) > _MAX_DENIED:
                want.asked.discard(peer_id)
                wantlist.drop(self._number, cid)
            self._requeue(cid, want)

    def received(self, peer_id: PeerId, cid: Cid, size: int, now: float) -> bool:
        """A verified block came from `peer_id`; return whether it was wanted. Others who were asked are told."""
        if cid not in self._wants:
            return False
        self.active(peer_id, now)
        if (peer := self._peers.get(peer_id)) is not None:
            peer.is_source = True
            peer.delivered(cid, size, now)
        self.blocks += 1
        self.bytes += size
        weight = 1 / min(self.blocks + _GUESS, 64)
        self._mean_size += (size - self._mean_size) * weight
        self._search_interval = SEARCH_INTERVAL
        self._forget(cid)
        return True

    # ---- what to do ----

    def pump(self, now: float) -> None:
        """Ask peers for what is wanted, as far as they have room; notice who is silent."""
        for peer in self._peers.values():
            peer.measure(now)
        self._notice_silence(now)
        sources = [peer for peer in self._peers.values() if peer.is_source and not peer.is_stalled]
        sources.sort(key=lambda peer: peer.load(self._mean_size))
        for peer in sources:
            self._refill(peer, now)
        if self._queue:
            self._probe(sources, now)
        elif self._wants:
            self._rebalance(sources, now)
        if self._parked and now >= self._next_listing:
            self._next_listing = now + LIST_INTERVAL
            self._list_parked(now)

    def next_search(self, now: float) -> Cid | None:
        """Return a CID to search providers of, None when that is not called for now.

        With each search but the first, those who denied the first of what nobody has are asked for it once more.
        """
        unserved = next(iter(self._parked), None)
        if unserved is None and (self.sources or not self._wants):
            return None
        if now < self._next_search and not (unserved is not None and not self._searched):
            return None
        if self._searched:  # at the first search they have just said so
            for cid in islice(self._parked, PROBES):  # js-ipfs-bitswap does not remember what it did not have
                for peer_id in self._wants[cid].asked:
                    self._wantlist_of(peer_id).ask_again(cid)
        target = self._root
        if target in self._searched and unserved is not None:  # every other time the block itself
            target = unserved
            self._searched.clear()
        self._searched.add(target)
        if target == self._root and unserved not in (None, self._root):
            self._next_search = now + SEARCH_DELAY  # whoever has the root may lack this: nobody should wait to find out
            return target
        self._next_search = now + self._search_interval
        self._search_interval = min(2 * self._search_interval, MAX_SEARCH_INTERVAL)
        return target

    def next_deadline(self, now: float) -> float | None:
        """Return when `pump` must be called if nothing happens before; None: not for any reason of time."""
        if not self._wants:
            return None
        times = [self._next_search] if self._parked or not self.sources else []
        due = (peer for peer in self._peers.values() if peer.outstanding or peer.is_stalled)
        times += [peer.next_check(STALL, ASK_AGAIN) for peer in due]
        return max(now, min(times)) if times else None

    # ---- inside ----

    def _forget(self, cid: Cid) -> None:
        want = self._wants.pop(cid)
        for peer_id in want.asked:
            if (peer := self._peers.get(peer_id)) is not None:
                peer.outstanding.pop(cid, None)
                self._wantlist_of(peer_id).drop(self._number, cid)
        self._parked.pop(cid, None)
        # The queue may still hold it: whoever takes from there looks first.

    def _ask(self, cid: Cid, peer: Source, kind: WantType, now: float) -> None:
        self._wants[cid].asked.add(peer.peer_id)
        peer.ask(cid, kind, now)
        self._wantlist_of(peer.peer_id).ask(self._number, cid, kind)

    def _requeue(self, cid: Cid, want: _Want) -> None:
        """Let `cid` wait for a source again, unless somebody who is not silent owes us the block."""
        if not want.queued and not any(self._owes(peer_id, cid) for peer_id in want.asked - want.denied):
            want.queued = True
            self._queue.appendleft(cid)

    def _owes(self, peer_id: PeerId, cid: Cid) -> bool:
        """Whether a peer was asked for the block itself and has not answered."""
        asked = self._peers[peer_id].outstanding.get(cid)
        return asked is not None and asked.kind is WantType.BLOCK

    @staticmethod
    def _may_have(peer: Source, want: _Want) -> bool:
        return not peer.is_stalled and peer.peer_id not in want.denied

    def _unpark(self) -> None:
        """Somebody is there who may have what nobody had."""
        self._queue.extendleft(reversed(self._parked))
        self._parked.clear()

    def _refill(self, peer: Source, now: float) -> None:
        room = min(peer.room(self._mean_size), MAX_WANTS - len(self._wantlist_of(peer.peer_id)))
        aside: list[Cid] = []
        while room > 0 and self._queue:
            cid = self._queue.popleft()
            want = self._wants.get(cid)
            if want is None or not want.queued:
                continue
            if peer.peer_id in want.denied:
                aside.append(cid)
                continue
            want.queued = False
            self._ask(cid, peer, WantType.BLOCK, now)
            room -= 1
        self._queue.extendleft(reversed(aside))

    def _probe(self, sources: list[Source], now: float) -> None:
        """Ask everybody for the first wants that no source can be asked for; of one candidate, want the block."""
        probed: list[Cid] = []
        while self._queue and len(probed) < PROBES:
            cid = self._queue.popleft()
            want = self._wants.get(cid)
            if want is None or not want.queued:
                continue
            if not any(self._may_have(peer, want) for peer in self._peers.values()):
                self._parked[cid] = None
                continue
            probed.append(cid)
            if any(peer.peer_id not in want.denied for peer in sources):
                self._look_for_helpers(cid, want, now)
                continue  # it waits for room there
            for peer_id, peer in self._peers.items():
                if peer_id not in want.asked and self._may_have(peer, want):
                    self._ask(cid, peer, WantType.BLOCK if not want.asked else WantType.HAVE, now)
        self._queue.extendleft(reversed(probed))

    def _look_for_helpers(self, cid: Cid, want: _Want, now: float) -> None:
        """Ask those who have shown nothing yet whether they have what waits for room: the answers to the first probe
        may have come after the block, and then they tell nothing.
        """
        for peer in self._peers.values():
            if not (peer.is_source or peer.outstanding or peer.questions >= PROBES) and self._may_have(peer, want):
                peer.questions += 1
                self._ask(cid, peer, WantType.HAVE, now)

    def _list_parked(self, now: float) -> None:
        """Put what everybody denied on lists where there was no room for it: who gets the block later answers then."""
        for peer_id, peer in self._peers.items():
            room = 0 if peer.is_stalled else _MAX_DENIED - len(self._wantlist_of(peer_id))
            if room > 0:
                missed = (cid for cid in self._parked if peer_id not in self._wants[cid].asked)
                for cid in islice(missed, room):
                    self._ask(cid, peer, WantType.BLOCK if not self._wants[cid].asked else WantType.HAVE, now)

    def _notice_silence(self, now: float) -> None:
        for peer in self._peers.values():
            if peer.outstanding and not peer.is_stalled and peer.silence(now) >= STALL:
                peer.is_stalled = True
                for cid in peer.outstanding:
                    # It is not told to forget: if it answers after all, before another does, that is as good.
                    want = self._wants[cid]
                    want.denied.add(peer.peer_id)
                    self._requeue(cid, want)
            if peer.may_try_again(ASK_AGAIN, now):
                self._unpark()
            for cid in peer.take_overdue(ASK_AGAIN, self._mean_size, now):
                self._wantlist_of(peer.peer_id).ask_again(cid)
                want = self._wants[cid]  # it may be lively and have lost this want: others are asked for it, too
                want.denied.add(peer.peer_id)
                self._requeue(cid, want)

    def _rebalance(self, sources: list[Source], now: float) -> None:
        """Let sources without work take over what slower ones have not begun to send."""
        for peer in sources:
            if peer.outstanding:
                continue
            slowest = max(sources, key=lambda each: each.time_left(self._mean_size))
            saved = slowest.time_left(self._mean_size) / 2 - self._mean_size / max(peer.rate, 1.0)
            if len(slowest.outstanding) < 2 or saved < _STEAL_GAIN:
                return
            begun = int(MIN_IN_FLIGHT / self._mean_size)  # a full message of it may be on its way already
            for cid in list(slowest.outstanding)[max(len(slowest.outstanding) // 2, begun) :]:
                if peer.peer_id not in self._wants[cid].denied:
                    del slowest.outstanding[cid]
                    self._wants[cid].asked.discard(slowest.peer_id)
                    self._wants[cid].denied.discard(slowest.peer_id)  # it was silent for a while, and has not denied it
                    self._wantlist_of(slowest.peer_id).drop(self._number, cid)
                    self._ask(cid, peer, WantType.BLOCK, now)
