"""The decision engine: whom to answer next, and with what.

    message ──► receive_wants ──┐                          ┌─► next_answer ──► read, send ──► answered | abandoned
                                ├─► due ──► next_ready ────┤                                       │
    store ────► blocks_arrived ─┘     ▲     (strategy)     └─► ignored for a while                 │
                                      └────────────────── more is due ◄───────────────────────────┘

Goals: every peer that wants something has its turn, however much others want; nothing is read or sent twice because it
was asked for twice; wants of blocks that we lack are remembered and answered when the blocks come. Non-goals: reading
blocks, sending, waiting (the service's), and what we want ourselves (`wantlist`, `session`).

Turns are fair queueing by virtual time: each peer has a clock that its answers advance by what they cost, the slowest
clock is next, and who was idle is put forward to the time of the last turn, so that idleness earns nothing.

A want-have is answered HAVE, or by the block itself if that is hardly larger. DONT_HAVE is said only to who asked for
it, and such a want stays. Time is an argument, in seconds since 1970 as the ledgers want it; when that clock is put
back or forth, a cooldown is shorter at most.

Spec: https://specs.ipfs.tech/bitswap-protocol/
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import heapify, heappop, heappush
from typing import Final

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.ledger import Ledgers
from ipvcs.node.exchange.messages import MAX_MESSAGE, WantEntry, WantType, block_size, presence_size
from ipvcs.node.exchange.peer_wants import MAX_WANTS, Due, PeerWants, Want, is_wantable
from ipvcs.node.exchange.strategy import Strategy

MAX_HAVE_BLOCK: Final = 1024
"""Bytes up to which a want-have is answered by the block: it saves the round trip. Go's default."""
MAX_TOTAL: Final = 65_536
"""Wants of all peers together, some 50 MiB. Beyond it a peer may have `_LEAST`; who has more keeps them, no more."""
_LEAST: Final = 64
"""Wants that a peer may have in any case: enough to keep a link busy."""
_ROOM: Final = MAX_MESSAGE - 64
"""Bytes of blocks and presences in a message: what is left of it pays for `pendingBytes` and some slack."""
_ANSWER_COST: Final = 16 * 1024
"""Bytes by which an answer advances a peer's clock beside those sent, so that empty ones are no free turns. The size
at which Go's engine ends a message."""
_MAX_IGNORED: Final = 10_000
"""Refusals that are remembered beyond a disconnection; ten times the connections we keep."""
_SLACK: Final = 64
"""Turns in the queue that may be void before it is made anew, beside as many as there are peers."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send a peer, in this order of importance."""

    blocks: tuple[Cid, ...]
    haves: tuple[Cid, ...]
    dont_haves: tuple[Cid, ...]
    size: int
    """Bytes that the blocks have together, as far as we know."""
    pending_bytes: int
    """Bytes of blocks that are due to the peer after this."""


class _State(Enum):
    IDLE = auto()
    """It has no turn: nothing is due, or nothing that could be sent when it was tried."""
    READY = auto()
    """It has a turn in the queue."""
    CHOSEN = auto()
    """`next_ready` returned it."""
    SENDING = auto()
    """An answer is on its way."""
    IGNORED = auto()
    """The strategy refused it; it is asked about again after the cooldown."""
    GONE = auto()
    """It disconnected."""


@dataclass(slots=True, eq=False)
class _Peer:
    peer_id: PeerId
    wants: PeerWants = field(default_factory=PeerWants)
    state: _State = _State.IDLE
    clock: int = 0
    """Virtual time: bytes it was sent, and put forward when it was idle."""
    answer: Answer | None = None
    taken: list[Want] = field(default_factory=list)
    """What `answer` answers."""


class Engine:
    """Decides for all peers. `connected` and `disconnected` are to be called at a peer's first and last connection;
    wants of a peer that is not connected are ignored.

    Every table is bounded: `max_wants` a peer (and as many on their way), `max_total` of all.
    """

    def __init__(
        self, ledgers: Ledgers, strategy: Strategy, *, max_wants: int = MAX_WANTS, max_total: int = MAX_TOTAL
    ) -> None:
        self._ledgers = ledgers
        self._strategy = strategy
        self._max_wants = max_wants
        self._max_total = max_total
        self._total = 0
        self._peers: dict[PeerId, _Peer] = {}
        self._waiting: dict[bytes, dict[Want, _Peer]] = {}
        """By multihash, the wants of blocks that we do not have."""
        self._queue: list[tuple[int, int, _Peer]] = []
        """Turns: (clock, number, peer). A READY peer has one; those of peers that are GONE are void."""
        self._turns = 0
        self._clock = 0
        """The virtual time of the last turn."""
        self._ignored: OrderedDict[PeerId, float] = OrderedDict()
        """Whom the strategy refused, and until when; soonest first, and also peers that have left meanwhile."""

    # Peers

    def connected(self, peer_id: PeerId) -> None:
        """Expect wants of `peer_id`."""
        self._ledgers.connected(peer_id)
        if peer_id not in self._peers:
            state = _State.IGNORED if peer_id in self._ignored else _State.IDLE
            self._peers[peer_id] = _Peer(peer_id, state=state)

    def disconnected(self, peer_id: PeerId) -> None:
        """Forget all that `peer_id` wants."""
        if (peer := self._peers.pop(peer_id, None)) is not None:
            for want in peer.wants:
                self._stop_waiting(want)
            self._total -= len(peer.wants)
            peer.wants = PeerWants()
            peer.state = _State.GONE
            if len(self._ignored) > _MAX_IGNORED:
                self._ignored.pop(peer_id, None)
        self._ledgers.disconnected(peer_id)

    # What happens

    def receive_wants(
        self, peer_id: PeerId, entries: Sequence[WantEntry], *, full: bool, sizes: Mapping[bytes, int], now: float
    ) -> None:
        """Take a wantlist that `peer_id` sent.

        What is asked for again while it is due or on its way is not answered twice; cancelled in between, it is.

        Args:
            peer_id: whose it is.
            entries: in the order of the message.
            full: they replace all that the peer wanted before.
            sizes: of those blocks wanted that we have, bytes by multihash.
            now: the time.
        """
        if (peer := self._peers.get(peer_id)) is None:
            return
        wants = peer.wants
        self._total -= len(wants)
        if full:
            kept = {entry.cid.raw for entry in entries if not entry.cancel}
            for want in [each for each in wants if each.cid.raw not in kept]:
                self._drop(peer, want)
        for entry in entries:
            if entry.cancel:
                if (cancelled := wants.get(entry.cid)) is not None:
                    self._drop(peer, cancelled)
            elif is_wantable(entry.cid):
                self._want(peer, entry, sizes)
        self._total += len(wants)
        self._schedule(peer)

    def blocks_arrived(self, sizes: Mapping[bytes, int], now: float) -> None:
        """Wake the wants of blocks that we have now; `sizes` are their bytes by multihash."""
        found = [key for key in sizes if key in self._waiting] if len(sizes) <= len(self._waiting) else [
            key for key in self._waiting if key in sizes
        ]  # fmt: skip
        for multihash in found:
            if not _is_sendable(sizes[multihash]):
                continue
            for want, peer in self._waiting.pop(multihash).items():
                self._serve(peer, want, sizes[multihash])
                self._schedule(peer)

    def waiting(self) -> Collection[bytes]:
        """Return a view of the multihashes that somebody wants and we do not have. It changes with every other call."""
        return self._waiting.keys()

    def wants_of(self, peer_id: PeerId) -> Sequence[WantEntry]:
        """Return what `peer_id` wants, first to last, what is on its way to it included."""
        peer = self._peers.get(peer_id)
        return () if peer is None else [want.entry for want in sorted(peer.wants, key=lambda want: want.rank)]

    # Turns

    def next_ready(self, now: float) -> PeerId | None:
        """Return whom to answer next, None if nobody is due; `next_answer` is to follow.

        It is not returned again before `next_answer` returned None for it or its answer is `answered` or `abandoned`.
        """
        self._end_cooldowns(now)
        while self._queue:
            clock, _turn, peer = heappop(self._queue)
            if peer.state is not _State.READY:
                continue
            if not peer.wants.has_due:
                peer.state = _State.IDLE
                continue
            self._clock = max(self._clock, clock)
            if self._strategy.serves(self._ledgers.get(peer.peer_id)):
                peer.state = _State.CHOSEN
                return peer.peer_id
            peer.state = _State.IGNORED
            self._ignored[peer.peer_id] = now + self._strategy.ignore_cooldown
        return None

    def next_answer(self, peer_id: PeerId, max_bytes: int, now: float, *, presences: bool = True) -> Answer | None:
        """Return what to send `peer_id`, which `next_ready` returned; None if it has left or taken all back since.

        Presences come first, then blocks by priority: as much as fits into `max_bytes` of a message, and at least one
        block, however large, as long as the message is one that peers read.

        Args:
            peer_id: whom.
            max_bytes: by `messages.block_size` and `presence_size`.
            now: the time.
            presences: whether the peer knows HAVE and DONT_HAVE; else they are forgotten instead.
        """
        peer = self._peers.get(peer_id)
        if peer is None or peer.state is not _State.CHOSEN:
            return None
        if not presences:
            self._forget_presences(peer)
        wants = peer.wants
        used = 0
        told: list[Want] = []
        for want in wants.presences():
            cost = presence_size(want.cid)
            if told and used + cost > min(max_bytes, _ROOM):
                break
            used += cost
            told.append(want)
        kinds = [wants.take(want) for want in told]
        size = 0
        blocks: list[Want] = []
        while (due := wants.next_block()) is not None and due.size is not None:
            cost = block_size(due.cid, due.size)
            if used + cost > (min(max_bytes, _ROOM) if blocks else _ROOM):
                break
            used += cost
            size += due.size
            wants.take(due)
            blocks.append(due)
        if not told and not blocks:
            peer.state = _State.IDLE
            return None
        peer.state = _State.SENDING
        peer.taken = told + blocks
        peer.answer = Answer(
            blocks=tuple(want.cid for want in blocks),
            haves=tuple(want.cid for want, kind in zip(told, kinds, strict=True) if kind is Due.HAVE),
            dont_haves=tuple(want.cid for want, kind in zip(told, kinds, strict=True) if kind is Due.DONT_HAVE),
            size=size,
            pending_bytes=wants.pending_bytes,
        )
        return peer.answer

    def answered(
        self, peer_id: PeerId, answer: Answer, sent: int, missing: Collection[Cid] = (), *, now: float
    ) -> None:
        """Note that `answer`, as `next_answer` returned it, was sent.

        Args:
            peer_id: whom to.
            answer: the very object.
            sent: bytes of blocks.
            missing: blocks of it that turned out not to be there, and were not sent. The peer is told if it asked to
                be, and else waits.
            now: the time.
        """
        gone = {cid.raw for cid in missing}
        if sent:
            self._ledgers.sent(peer_id, sent, now, blocks=sum(cid.raw not in gone for cid in answer.blocks))
        if (peer := self._find_sending(peer_id, answer)) is None:
            return
        self._total -= len(peer.wants)
        for want in peer.taken:
            kind = peer.wants.land(want, self._max_wants)
            if want not in peer.wants:
                self._stop_waiting(want)
            elif kind is Due.BLOCK:
                if want.cid.raw in gone:
                    self._lack(peer, want)
                else:
                    self._drop(peer, want)
            elif kind is Due.HAVE and want.type is WantType.HAVE:
                self._drop(peer, want)
        self._total += len(peer.wants)
        self._end_turn(peer, sent)
        self._schedule(peer)

    def abandoned(self, peer_id: PeerId, answer: Answer) -> None:
        """Note that `answer` could not be sent. It is due again, but not tried again before the peer sends a wantlist
        or a block arrives for it: who does not read would otherwise be tried for ever.
        """
        if (peer := self._find_sending(peer_id, answer)) is None:
            return
        self._total -= len(peer.wants)
        for want in peer.taken:
            kind = peer.wants.land(want, self._max_wants)
            if want not in peer.wants:
                self._stop_waiting(want)
            elif want.due is Due.NOTHING:
                peer.wants.set_due(want, kind, want.size)
        self._total += len(peer.wants)
        self._end_turn(peer, answer.size)

    def next_deadline(self) -> float | None:
        """Return when `next_ready` may have somebody by the passing of time alone; None: never."""
        return next(iter(self._ignored.values()), None)

    # Inside: wants

    def _want(self, peer: _Peer, entry: WantEntry, sizes: Mapping[bytes, int]) -> None:
        limit = self._max_wants
        if self._total + len(peer.wants) >= self._max_total:  # `_total` is without this peer's meanwhile
            limit = min(limit, _LEAST)
        want, dropped = peer.wants.put(entry, limit)
        if dropped is not None:
            self._stop_waiting(dropped)
        if want is None:
            return
        # What is on its way and is due once more by this is fulfilled, and dropped, before the next answer is made.
        size = sizes.get(want.multihash)
        if size is None or not _is_sendable(size):
            self._lack(peer, want, waits=size is None)
        else:
            self._stop_waiting(want)
            self._serve(peer, want, size)

    def _serve(self, peer: _Peer, want: Want, size: int) -> None:
        """Make the block due, or that we have it."""
        as_block = want.type is WantType.BLOCK or size <= MAX_HAVE_BLOCK
        peer.wants.set_due(want, Due.BLOCK if as_block else Due.HAVE, size)

    def _lack(self, peer: _Peer, want: Want, *, waits: bool = True) -> None:
        """Make it due that we do not have the block, if the peer wants to know and is not being told; let it wait."""
        tell = want.send_dont_have and want.on_its_way is not Due.DONT_HAVE
        peer.wants.set_due(want, Due.DONT_HAVE if tell else Due.NOTHING)
        if waits:
            self._waiting.setdefault(want.multihash, {})[want] = peer
        else:
            self._stop_waiting(want)

    def _drop(self, peer: _Peer, want: Want) -> None:
        peer.wants.remove(want)
        self._stop_waiting(want)

    def _stop_waiting(self, want: Want) -> None:
        others = self._waiting.get(want.multihash)
        if others is not None and others.pop(want, None) is not None and not others:
            del self._waiting[want.multihash]

    def _forget_presences(self, peer: _Peer) -> None:
        self._total -= len(peer.wants)
        for want in list(peer.wants.presences()):
            if want.due is Due.HAVE:
                self._drop(peer, want)
            else:
                peer.wants.set_due(want, Due.NOTHING)
        self._total += len(peer.wants)

    # Inside: turns

    def _schedule(self, peer: _Peer) -> None:
        """Give the peer a turn, if it has none and something is due."""
        if peer.state is not _State.IDLE or not peer.wants.has_due:
            return
        peer.state = _State.READY
        peer.clock = max(peer.clock, self._clock)
        self._turns += 1
        if len(self._queue) > 2 * len(self._peers) + _SLACK:
            self._queue = [turn for turn in self._queue if turn[2].state is _State.READY and turn[2] is not peer]
            heapify(self._queue)
        heappush(self._queue, (peer.clock, self._turns, peer))

    def _find_sending(self, peer_id: PeerId, answer: Answer) -> _Peer | None:
        """Return the peer, None if it has left meanwhile, even if it is there again."""
        peer = self._peers.get(peer_id)
        return peer if peer is not None and peer.answer is answer else None

    def _end_turn(self, peer: _Peer, size: int) -> None:
        peer.answer, peer.taken = None, []
        peer.clock += size + _ANSWER_COST
        peer.state = _State.IDLE

    def _end_cooldowns(self, now: float) -> None:
        while self._ignored:
            peer_id, until = next(iter(self._ignored.items()))
            if now < until <= now + self._strategy.ignore_cooldown:  # further off only if the clock was put back
                return
            del self._ignored[peer_id]
            peer = self._peers.get(peer_id)
            if peer is not None and peer.state is _State.IGNORED:
                peer.state = _State.IDLE
                self._schedule(peer)


def _is_sendable(size: int) -> bool:
    """Tell whether a block of `size` bytes fits into a message, whatever its CID."""
    return size <= _ROOM - 512
