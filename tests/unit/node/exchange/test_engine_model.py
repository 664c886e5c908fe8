"""The engine against a model that is too simple to be wrong: lists, searched from end to end.

Three peers, eight CIDs of six blocks, tables of five wants. The model says for every answer what exactly must be in it,
and between answers what is waited for, what each peer wants, and whether anybody is due.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.engine import Answer, Engine
from ipvcs.node.exchange.ledger import Ledger, Ledgers
from ipvcs.node.exchange.messages import MAX_MESSAGE, WantEntry, WantType, block_size

_PEERS = [PeerId.from_public_key(bytes([number])) for number in range(3)]
_V1 = [Cid.of(sha256(bytes([number])).digest()) for number in range(6)]
_CIDS = [*_V1, *(Cid(each.multihash) for each in _V1[:2])]
_SIZES = [0, 1000, 1025, 5000, 200_000, MAX_MESSAGE]
_MAX_WANTS = 5
_COOLDOWN = 10.0

_entries = st.builds(
    WantEntry,
    st.sampled_from(_CIDS),
    st.sampled_from(WantType),
    st.integers(-1, 2),
    cancel=st.sampled_from((False, False, False, True)),
    send_dont_have=st.booleans(),
)
_max_bytes = st.sampled_from((1000, 6000, 300_000))
"""Room for all presences that there may be, and for one, a few or all blocks."""


@dataclass(eq=False)
class ModelWant:
    cid: Cid
    type: WantType
    priority: int
    tell: bool
    arrival: int
    size: int | None = None
    waits: bool = False
    due: str = ""
    flying: str = ""


@dataclass
class ModelPeer:
    wants: list[ModelWant] = field(default_factory=list)
    flying: list[ModelWant] = field(default_factory=list)
    answer: Answer | None = None
    chosen: bool = False
    stalled: bool = False

    def find(self, cid: Cid) -> ModelWant | None:
        return next((want for want in self.wants if want.cid == cid), None)

    def staying(self) -> list[ModelWant]:
        return [want for want in self.wants if not want.flying]

    def due(self, kind: str) -> list[ModelWant]:
        return sorted((w for w in self.wants if w.due == kind), key=lambda w: (-w.priority, w.arrival))


class Coin:
    ignore_cooldown = _COOLDOWN

    def __init__(self) -> None:
        self.yes = True

    def serves(self, _ledger: Ledger) -> bool:
        return self.yes


class EngineMachine(RuleBasedStateMachine):
    chosen: Bundle[PeerId] = Bundle("chosen")
    """Who was returned by `next_ready`; `next_answer` is still to follow."""
    answers: Bundle[tuple[PeerId, Answer]] = Bundle("answers")
    """On their way."""

    @initialize()
    def start(self) -> None:
        self.coin, self.ledgers = Coin(), Ledgers()
        self.engine = Engine(self.ledgers, self.coin, max_wants=_MAX_WANTS)
        self.now = 0.0
        self.arrivals = 0
        self.peers: dict[PeerId, ModelPeer] = {}
        self.ignored: dict[PeerId, float] = {}
        self.store: set[bytes] = set()
        self.sent = dict.fromkeys(_PEERS, 0)
        for peer_id in _PEERS:
            self.connect(peer_id)

    # What the world does

    @rule(peer_id=st.sampled_from(_PEERS))
    def connect(self, peer_id: PeerId) -> None:
        self.engine.connected(peer_id)
        self.peers.setdefault(peer_id, ModelPeer())

    @rule(peer_id=st.sampled_from(_PEERS), really=st.sampled_from((False, False, False, True)))
    def disconnect(self, peer_id: PeerId, really: bool) -> None:
        if not really:  # too often, and nothing lasts
            return
        self.engine.disconnected(peer_id)
        self.peers.pop(peer_id, None)

    @rule(index=st.integers(0, 5))
    def lose(self, index: int) -> None:
        self.store.discard(_V1[index].multihash)

    @rule(index=st.integers(0, 5), told=st.sampled_from((True, True, False)))
    def put(self, index: int, told: bool) -> None:
        key = _V1[index].multihash
        self.store.add(key)
        if not told:  # another process put it
            return
        self.engine.blocks_arrived({key: _SIZES[index], b"nobody's": 1}, self.now)
        if _SIZES[index] == MAX_MESSAGE:
            return
        for peer in self.peers.values():
            for want in peer.wants:
                if want.waits and want.cid.multihash == key:
                    self._serve(want, _SIZES[index])
                    peer.stalled = False

    @rule(seconds=st.sampled_from((1.0, 9.0, 10.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        peer_id=st.sampled_from(_PEERS),
        entries=st.lists(_entries, max_size=8),
        full=st.sampled_from((False, False, True)),
    )
    def receive(self, peer_id: PeerId, entries: list[WantEntry], full: bool) -> None:
        have = {key: size for each, size in zip(_V1, _SIZES, strict=True) if (key := each.multihash) in self.store}
        self.engine.receive_wants(peer_id, entries, full=full, sizes=have, now=self.now)
        if (peer := self.peers.get(peer_id)) is None:
            return
        peer.stalled = False
        if full:
            kept = [entry.cid for entry in entries if not entry.cancel]
            peer.wants = [want for want in peer.wants if want.cid in kept]
        for entry in entries:
            if entry.cancel:
                peer.wants = [want for want in peer.wants if want.cid != entry.cid]
            else:
                self._want(peer, entry, have)

    def _want(self, peer: ModelPeer, entry: WantEntry, have: dict[bytes, int]) -> None:
        want = peer.find(entry.cid)
        if want is None:
            if len(peer.staying()) >= _MAX_WANTS:
                worst = max(peer.staying(), key=lambda want: (-want.priority, want.arrival))
                if entry.priority <= worst.priority:
                    return
                peer.wants.remove(worst)
            want = ModelWant(entry.cid, entry.type, entry.priority, entry.send_dont_have, self.arrivals)
            self.arrivals += 1
            peer.wants.append(want)
        else:
            want.priority, want.tell = entry.priority, entry.send_dont_have
            if entry.type is WantType.BLOCK:
                want.type = WantType.BLOCK
        size = have.get(want.cid.multihash)
        if size is None or size == MAX_MESSAGE:
            self._lack(want, waits=size is None)
        else:
            self._serve(want, size)

    def _serve(self, want: ModelWant, size: int) -> None:
        want.size, want.waits = size, False
        want.due = "block" if want.type is WantType.BLOCK or size <= 1024 else "have"

    def _lack(self, want: ModelWant, *, waits: bool) -> None:
        want.size, want.waits = None, waits
        want.due = "dont" if want.tell and want.flying != "dont" else ""

    # What the service does

    def _eligible(self) -> list[PeerId]:
        self.ignored = {peer_id: until for peer_id, until in self.ignored.items() if until > self.now}
        return [
            peer_id
            for peer_id, peer in self.peers.items()
            if any(want.due for want in peer.wants)
            and not (peer.chosen or peer.answer or peer.stalled or peer_id in self.ignored)
        ]

    @rule(target=chosen)
    def choose(self) -> Any:
        """Ask who is next, and take some time over it."""
        peer_id = self._poll()
        return multiple() if peer_id is None else peer_id

    @rule()
    def refuse(self) -> None:
        self.coin.yes = False
        eligible = self._eligible()
        assert self.engine.next_ready(self.now) is None
        self.coin.yes = True
        self.ignored |= dict.fromkeys(eligible, self.now + _COOLDOWN)
        assert self.engine.next_deadline() == min(self.ignored.values(), default=None)

    @rule(target=answers, max_bytes=_max_bytes)
    def choose_and_begin(self, max_bytes: int) -> Any:
        peer_id = self._poll()
        return multiple() if peer_id is None else self.begin(peer_id, max_bytes)

    @rule(target=answers, peer_id=consumes(chosen), max_bytes=_max_bytes)
    def begin_late(self, peer_id: PeerId, max_bytes: int) -> Any:
        return self.begin(peer_id, max_bytes)

    def _poll(self) -> PeerId | None:
        eligible = self._eligible()
        peer_id = self.engine.next_ready(self.now)
        if peer_id is None:
            assert not eligible
        else:
            assert peer_id in eligible
            self.peers[peer_id].chosen = True
        return peer_id

    def begin(self, peer_id: PeerId, max_bytes: int) -> Any:
        answer = self.engine.next_answer(peer_id, max_bytes, self.now)
        peer = self.peers.get(peer_id)
        if peer is None or not peer.chosen:
            assert answer is None
            return multiple()
        peer.chosen = False
        told = peer.due("have") + peer.due("dont")
        blocks: list[ModelWant] = []
        used = sum(len(want.cid.raw) + 8 for want in told)
        for want in peer.due("block"):
            used += block_size(want.cid, want.size or 0)
            if blocks and used > max_bytes:
                break
            blocks.append(want)
        if not told and not blocks:
            assert answer is None
            return multiple()
        assert answer is not None
        assert set(answer.haves) == {want.cid for want in told if want.due == "have"}
        assert set(answer.dont_haves) == {want.cid for want in told if want.due == "dont"}
        assert answer.blocks == tuple(want.cid for want in blocks)
        assert answer.size == sum(want.size or 0 for want in blocks)
        for want in told + blocks:
            want.flying, want.due = want.due, ""
        assert answer.pending_bytes == sum(want.size or 0 for want in peer.due("block"))
        # Presences go in the order in which they became due. It counts when they land: the first stay if not all can.
        order = [want.cid for want in self.engine._peers[peer_id].taken]
        peer.answer, peer.flying = answer, sorted(told + blocks, key=lambda want: order.index(want.cid))
        return peer_id, answer

    @rule(sending=consumes(answers), lost=st.sets(st.sampled_from(_CIDS), max_size=2))
    def finish(self, sending: tuple[PeerId, Answer], lost: set[Cid]) -> None:
        peer_id, answer = sending
        missing = [cid for cid in answer.blocks if cid in lost]
        sent = 10 * (len(answer.blocks) - len(missing))
        self.engine.answered(peer_id, answer, sent, missing, now=self.now)
        self.sent[peer_id] += sent

        def fulfil(peer: ModelPeer, want: ModelWant, kind: str) -> None:
            if kind == "block" and want.cid in missing:
                self._lack(want, waits=True)
            elif kind == "block" or (kind == "have" and want.type is WantType.HAVE):
                peer.wants.remove(want)

        self._land(peer_id, answer, fulfil)

    @rule(sending=consumes(answers))
    def fail(self, sending: tuple[PeerId, Answer]) -> None:
        peer_id, answer = sending
        self.engine.abandoned(peer_id, answer)
        if (peer := self.peers.get(peer_id)) is not None and peer.answer is answer:
            peer.stalled = True

        def owe(_peer: ModelPeer, want: ModelWant, kind: str) -> None:
            want.due = want.due or kind

        self._land(peer_id, answer, owe)

    def _land(self, peer_id: PeerId, answer: Answer, then: Callable[[ModelPeer, ModelWant, str], None]) -> None:
        peer = self.peers.get(peer_id)
        if peer is None or peer.answer is not answer:
            return
        for want in peer.flying:
            kind, want.flying = want.flying, ""
            if want in peer.wants:
                if len(peer.staying()) > _MAX_WANTS:
                    peer.wants.remove(want)
                else:
                    then(peer, want, kind)
        peer.answer, peer.flying = None, []

    # What holds between any two of these

    @invariant()
    def exactly_what_is_lacked_is_waited_for(self) -> None:
        lacked = {want.cid.multihash for peer in self.peers.values() for want in peer.wants if want.waits}
        assert set(self.engine.waiting()) == lacked

    @invariant()
    def each_peer_wants_what_the_model_says(self) -> None:
        for peer_id in _PEERS:
            peer = self.peers.get(peer_id, ModelPeer())
            wanted = sorted(peer.wants, key=lambda want: (-want.priority, want.arrival))
            expected = [WantEntry(w.cid, w.type, w.priority, send_dont_have=w.tell) for w in wanted]
            assert list(self.engine.wants_of(peer_id)) == expected
            assert len(expected) <= 2 * _MAX_WANTS

    @invariant()
    def the_count_of_all_wants_is_right(self) -> None:
        assert self.engine._total == sum(len(peer.wants) for peer in self.peers.values())

    @invariant()
    def ledgers_say_what_was_sent(self) -> None:
        assert {peer_id: self.ledgers.get(peer_id).bytes_sent for peer_id in _PEERS} == self.sent


TestEngineMachine = EngineMachine.TestCase
