"""A world of simulated peers around sessions, in virtual time: messages of many blocks, stalls, churn and chatter.

It plays the service's part, so sessions and wantlists are the real ones and are called when the service calls them:
sessions are pumped when something came, peers came or left, and at each tick. `test_session.py` has a simpler world,
in which each peer sends one block after the other.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.messages import WantEntry, WantType
from ipvcs.node.exchange.service import TICK
from ipvcs.node.exchange.session import Session
from ipvcs.node.exchange.wantlist import PeerWantlist
from ipvcs.objects.block import Block
from tests.fakes.memory_network import key_of

KIB: Final = 1024
MIB: Final = 1024 * KIB
CIDS: Final = [Block.of(b"%d" % number).cid for number in range(3000)]
ALWAYS: Final = ((0.0, math.inf),)


@dataclass
class _Listed:
    """A want on a peer's list."""

    kind: WantType
    priority: int
    due: bool
    """Whether the peer has the block."""


@dataclass(eq=False)
class WorldPeer:
    """A peer and its habits. Times are seconds since the world began."""

    name: str
    has: set[Cid] = field(default_factory=set)
    rate: float = 100 * MIB
    """Bytes a second."""
    latency: float = 0.005
    """Seconds one way."""
    batch: int = 4 * MIB
    """Bytes of blocks that it sends in one message; at least a block."""
    limit: int = 1024
    """Wants that it keeps; what exceeds them it drops silently, as go-bitswap and js-ipfs-bitswap do."""
    mute: bool = False
    """It takes wants and says nothing."""
    chatters: bool = False
    """It sends something that has nothing to do with wants, each second."""
    ignores: frozenset[Cid] = frozenset()
    """Wants that it never answers."""
    forgets: set[Cid] = field(default_factory=set)
    """Wants that it drops silently, once each."""
    stalls: Sequence[tuple[float, float]] = ()
    """From when until when it neither reads nor sends."""
    online: Sequence[tuple[float, float]] = ALWAYS
    """From when until when it is connected."""
    gains: Sequence[tuple[float, Cid]] = ()
    """Blocks that it gets later."""

    wants: dict[Cid, _Listed] = field(default_factory=dict)
    wantlist: PeerWantlist | None = None
    """What it is asked; None: it is not connected."""
    connections: int = 0
    """How many it had; what was under way on an earlier one is lost."""
    is_sending: bool = False
    sent: int = 0
    """Blocks."""
    dropped: int = 0
    """Wants over its limit."""

    @property
    def peer_id(self) -> PeerId:
        return key_of(self.name).peer_id

    def would_send(self, cid: Cid) -> bool:
        """Whether it is connected and sends that block to who asks often enough."""
        return self.wantlist is not None and not self.mute and cid in self.has and cid not in self.ignores


class SessionWorld:
    """Sessions, a clock of events, and the peers."""

    def __init__(
        self,
        peers: Iterable[WorldPeer],
        *wants: Sequence[Cid],
        size: int = 256 * KIB,
        starts: Sequence[float] = (0.0, 0.0),
        verifying: float = 0.0,
    ) -> None:
        """Make a world in which nothing has happened yet.

        Args:
            peers: who is there.
            wants: what each session wants.
            size: bytes of a block.
            starts: when each session begins to want.
            verifying: seconds between a block's arrival and when sessions hear of it.
        """
        self.now = 0.0
        self.peers: Mapping[PeerId, WorldPeer] = {peer.peer_id: peer for peer in peers}
        self.wants = wants
        self.got: list[dict[Cid, float]] = [{} for _ in wants]
        """By session, when it got what."""
        self.searches: list[list[float]] = [[] for _ in wants]
        """By session, when it searched for providers."""
        self.duplicates = self.messages = self.entries = 0
        self._size = size
        self._verifying = verifying
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._sessions = [Session(number, cids[0], 0.0, self._wantlist_of) for number, cids in enumerate(wants)]
        self._changes_until = max(starts[: len(wants)])
        """When the last thing happens by itself that makes more wants servable."""
        for peer in self.peers.values():
            for start, end in peer.online:
                self._at(start, lambda peer=peer: self._connect(peer))  # type: ignore[misc]
                if end < math.inf:
                    self._at(end, lambda peer=peer: self._disconnect(peer))  # type: ignore[misc]
                self._changes_until = max(self._changes_until, start)
            for when, cid in peer.gains:
                self._at(when, lambda peer=peer, cid=cid: self._gain(peer, cid))  # type: ignore[misc]
                self._changes_until = max(self._changes_until, when)
            if peer.chatters:
                self._at(1.0, lambda peer=peer: self._chatter(peer))  # type: ignore[misc]
        for session, cids, start in zip(self._sessions, wants, starts, strict=False):
            self._at(start, lambda session=session, cids=cids: self._want(session, cids))  # type: ignore[misc]
        self._at(TICK, self._tick)

    @property
    def duplicate_share(self) -> float:
        """Duplicates among all blocks that came."""
        return self.duplicates / max(1, self.duplicates + sum(len(got) for got in self.got))

    def run(self, until: float = 300.0, *, while_servable: bool = False) -> float:
        """Let things happen until all is there; return when that was, or `until`.

        With `while_servable` it ends, too, when nobody connected would send what is missing, and nothing will change.
        """
        while self._events and self.now < until:
            if self.now >= self._changes_until:
                if all(len(got) == len(cids) for got, cids in zip(self.got, self.wants, strict=True)):
                    break
                if while_servable and not self.servable():
                    break
            self.now, _number, act = heapq.heappop(self._events)
            act()
        return self.now

    def servable(self) -> list[tuple[int, Cid, str]]:
        """Return what is missing although somebody would send it: (session, CID, peer)."""
        return [
            (number, cid, peer.name)
            for number, cids in enumerate(self.wants)
            for cid in cids
            if cid not in self.got[number]
            for peer in self.peers.values()
            if peer.would_send(cid)
        ]

    # ---- the service's part ----

    def _wantlist_of(self, peer_id: PeerId) -> PeerWantlist:
        wantlist = self.peers[peer_id].wantlist
        assert wantlist is not None, "nobody is asked who is not connected"
        return wantlist

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), act))

    def _tick(self) -> None:
        self._pump()
        self._at(self.now + TICK, self._tick)

    def _want(self, session: Session, cids: Iterable[Cid]) -> None:
        session.want(cids)
        self._pump()

    def _pump(self) -> None:
        for number, session in enumerate(self._sessions):
            session.pump(self.now + 1e-5)  # no real clock stands still between an arrival and this
            if session.next_search(self.now) is not None:
                self.searches[number].append(self.now)
        for peer in self.peers.values():
            while peer.wantlist is not None and peer.wantlist.has_changes:
                entries, full = peer.wantlist.take()
                self.messages += 1
                self.entries += len(entries)
                self._soon(peer, lambda peer=peer, entries=entries, full=full: self._read(peer, entries, full=full))  # type: ignore[misc]

    def _soon(self, peer: WorldPeer, act: Callable[[], None], *, after: float = 0.0) -> None:
        """Let `act` happen one way after `after` seconds, if the connection still stands by then."""
        self._at_peer(peer, self.now + after + peer.latency, act)

    def _at_peer(self, peer: WorldPeer, when: float, act: Callable[[], None]) -> None:
        connection = peer.connections

        def act_if_connected() -> None:
            if peer.wantlist is not None and peer.connections == connection:
                act()

        self._at(when, act_if_connected)

    def _arrive(self, peer: WorldPeer, cids: Sequence[Cid]) -> None:
        """A message came: who wants its blocks now is told when they are verified."""
        holders = [(cid, [session for session in self._sessions if session.wants(cid)]) for cid in cids]
        connection = peer.connections

        def verified() -> None:
            wantlist = peer.wantlist if peer.connections == connection else None
            for cid, sessions in holders:
                was_wanted = False
                for session in sessions:
                    number = self._sessions.index(session)
                    if wantlist is not None:
                        wantlist.fulfilled(number, cid)
                    if session.received(peer.peer_id, cid, self._size, self.now):
                        self.got[number][cid] = self.now
                        was_wanted = True
                self.duplicates += not was_wanted
            self._pump()

        self._at(self.now + self._verifying, verified)

    # ---- peers ----

    def _connect(self, peer: WorldPeer) -> None:
        peer.wantlist = PeerWantlist()
        peer.connections += 1
        for session in self._sessions:
            session.connected(peer.peer_id, self.now)
        self._pump()

    def _disconnect(self, peer: WorldPeer) -> None:
        peer.wantlist = None
        peer.wants = {}
        peer.is_sending = False
        for session in self._sessions:
            session.disconnected(peer.peer_id)
        self._pump()

    def _say(self, peer: WorldPeer) -> None:
        """Bytes came from it."""
        if not self._stalls_until(peer):
            for session in self._sessions:
                session.active(peer.peer_id, self.now)

    def _chatter(self, peer: WorldPeer) -> None:
        if peer.wantlist is not None:
            self._say(peer)
        self._at(self.now + 1.0, lambda: self._chatter(peer))

    def _gain(self, peer: WorldPeer, cid: Cid) -> None:
        peer.has.add(cid)
        if (want := peer.wants.get(cid)) is not None:
            if want.kind is WantType.HAVE:
                del peer.wants[cid]
                self._tell_presence(peer, cid, is_there=True)
            else:
                want.due = True
                self._serve(peer)

    def _stalls_until(self, peer: WorldPeer) -> float:
        """Return when the stall ends in which it is; 0.0: it does not stall."""
        return next((end for start, end in peer.stalls if start <= self.now < end), 0.0)

    def _read(self, peer: WorldPeer, entries: Sequence[WantEntry], *, full: bool) -> None:
        if peer.mute:
            return
        if until := self._stalls_until(peer):
            self._at_peer(peer, until, lambda: self._read(peer, entries, full=full))
            return
        if full:
            peer.wants = {}
        for entry in entries:
            cid = entry.cid
            if entry.cancel:
                peer.wants.pop(cid, None)
            elif cid in peer.ignores:
                pass
            elif cid in peer.forgets:
                peer.forgets.discard(cid)
            elif cid in peer.has and entry.type is WantType.HAVE:
                self._tell_presence(peer, cid, is_there=True)
            elif cid not in peer.wants and len(peer.wants) >= peer.limit:
                peer.dropped += 1
            else:
                peer.wants[cid] = _Listed(entry.type, entry.priority, cid in peer.has)
                if cid not in peer.has and entry.send_dont_have:
                    self._tell_presence(peer, cid, is_there=False)
        self._serve(peer)

    def _tell_presence(self, peer: WorldPeer, cid: Cid, *, is_there: bool) -> None:
        def tell() -> None:
            self._say(peer)
            for session in self._sessions:
                (session.have if is_there else session.dont_have)(peer.peer_id, cid, self.now)
            self._pump()

        self._soon(peer, tell)

    def _serve(self, peer: WorldPeer) -> None:
        """Begin to send the next message, if none is being sent."""
        due = [cid for cid, want in peer.wants.items() if want.due]
        if peer.is_sending or not due:
            return
        due.sort(key=lambda cid: -peer.wants[cid].priority)
        due = due[: max(1, peer.batch // self._size)]
        for cid in due:
            del peer.wants[cid]
        peer.is_sending = True
        seconds = len(due) * self._size / peer.rate
        pieces = max(16, int(seconds * 2))  # it trickles in
        for number in range(1, pieces + 1):
            self._soon(peer, lambda: self._say(peer), after=seconds * number / pieces)
        self._at_peer(peer, self.now + seconds, lambda: self._sent(peer, due))

    def _sent(self, peer: WorldPeer, cids: Sequence[Cid]) -> None:
        if until := self._stalls_until(peer):
            self._at_peer(peer, until, lambda: self._sent(peer, cids))
            return
        peer.is_sending = False
        peer.sent += len(cids)
        self._soon(peer, lambda: self._arrive(peer, cids))
        self._serve(peer)
