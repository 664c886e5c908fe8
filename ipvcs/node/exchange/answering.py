"""Sends peers what the engine decides, a task for each peer that is being answered, and bounds what that holds.

What all answers under way hold in memory is bounded; each may have a part of what is left, so that peers that do not
read can't take the room of those that do. A peer that does not read loses its stream, and gets nothing more until it
says again what it wants.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

import anyio
from anyio.abc import TaskGroup

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.engine import Answer, Engine
from ipvcs.node.exchange.local_blocks import LocalBlocks
from ipvcs.node.exchange.messages import BITSWAP_120, MAX_MESSAGE, encode_answers
from ipvcs.node.exchange.peer import ExchangePeer
from ipvcs.node.network.errors import ProtocolNotSupportedError
from ipvcs.node.network.interface import Stream

MAX_HELD: Final = 64 * 1024 * 1024
"""Bytes of blocks in answers under way, to all peers: sixteen full messages. Beyond it answers have one block each."""
MAX_ANSWERED: Final = 64
"""Peers answered at once; each holds at least a block."""
STUCK: Final = 3.0
"""Seconds for which a peer may take nothing of an answer when others wait for its place."""
_SHARE: Final = 4
"""An answer may hold this part of the room that is left: however many do not read, there is some for the next."""
_LEAST: Final = 64 * 1024
"""Bytes of an answer in any case."""
_GONE: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, TimeoutError, IpvcsError)
"""What telling a peer may raise; whatever it answers when a stream is opened, as an HTTP error, is no fault of ours."""

_log = logging.getLogger(__name__)


class Answering:
    """Answers peers. `tasks` is set while the service runs."""

    def __init__(
        self, engine: Engine, local: LocalBlocks, peers: Mapping[PeerId, ExchangePeer], wall: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._local = local
        self._peers = peers
        self._wall = wall
        self._held = 0
        self._answered = 0
        self._sending: set[ExchangePeer] = set()
        self.tasks: TaskGroup | None = None
        self.blocks = self.bytes = self.messages = 0
        """Sent since the start."""

    def start(self) -> None:
        """Answer whoever is due, as far as there is room."""
        while self.tasks is not None:
            stuck = self._find_stuck() if self._answered >= MAX_ANSWERED else None
            if stuck is None and self._answered >= MAX_ANSWERED:
                return
            peer_id = self._engine.next_ready(self._wall())
            if peer_id is None:
                return
            if stuck is not None:
                stuck.answers_out.drop()  # which ends its answer
                self._sending.discard(stuck)
            self._answered += 1
            self.tasks.start_soon(self._answer, peer_id)

    def _find_stuck(self) -> ExchangePeer | None:
        """Return who has taken nothing for longest of what it is being sent, if that is too long while others wait."""
        slowest = min(self._sending, key=lambda peer: peer.answers_out.moved, default=None)
        if slowest is None or anyio.current_time() - slowest.answers_out.moved < STUCK:
            return None
        return slowest

    async def _answer(self, peer_id: PeerId) -> None:
        """Send `peer_id` one answer. The next one is prepared while this one is sent: one a peer waits, one is sent."""
        held = 0
        try:
            peer = self._peers.get(peer_id)
            if peer is None:
                return
            stream = await self._open(peer)
            presences = stream is None or stream.protocol == BITSWAP_120
            room = max(_LEAST, min(MAX_MESSAGE, (MAX_HELD - self._held) // _SHARE))
            answer = self._engine.next_answer(peer_id, room, self._wall(), presences=presences)
            if answer is None:
                return
            if stream is None:
                self._engine.abandoned(peer_id, answer)
                return
            held = answer.size
            self._held += held
            try:
                await self._send(peer, answer)
            except BaseException:
                self._engine.abandoned(peer_id, answer)  # or it would be on its way for ever
                raise
        finally:
            self._held -= held
            self._answered -= 1
            self.start()

    async def _open(self, peer: ExchangePeer) -> Stream | None:
        try:
            return await peer.answers_out.open()
        except (*_GONE, ProtocolNotSupportedError) as exc:
            _log.debug("cannot answer %s: %s", peer.peer_id, exc)
            return None

    async def _send(self, peer: ExchangePeer, answer: Answer) -> None:
        read = await self._local.read(answer.blocks)
        blocks: list[tuple[Cid, bytes]] = [(cid, data) for cid, data in read if data is not None]
        missing = [cid for cid, data in read if data is None]
        size = sum(len(data) for _cid, data in blocks)
        async with peer.sending:
            stream = await self._open(peer)  # it may have broken while the answer before this one was sent
            if stream is None:
                self._engine.abandoned(peer.peer_id, answer)
                return
            pieces = encode_answers(
                blocks, answer.haves, answer.dont_haves, answer.pending_bytes, protocol=stream.protocol
            )
            self._engine.answered(peer.peer_id, answer, size, missing, now=self._wall())
            self.start()
            self._sending.add(peer)
            try:
                await peer.answers_out.send(stream, pieces)
            except _GONE as exc:
                _log.debug("an answer to %s was lost: %s", peer.peer_id, exc)
                if self._peers.get(peer.peer_id) is peer:  # it gets nothing more until it says again what it wants
                    self._engine.disconnected(peer.peer_id)
                    self._engine.connected(peer.peer_id)
                return
            finally:
                self._sending.discard(peer)
        self.messages += 1
        self.blocks += len(blocks)
        self.bytes += size
