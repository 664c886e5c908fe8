"""Tells peers what we want of them: one task for each peer whose wantlist has changed, until it knows all of it.

A peer that can't be told is given up for a while: sessions ask others, and the next wantlist that it gets replaces
whatever it may know.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

import anyio
from anyio.abc import TaskGroup

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.messages import BITSWAP_120, encode_wants
from ipvcs.node.exchange.peer import ExchangePeer
from ipvcs.node.exchange.wantlist import PeerWantlist
from ipvcs.node.network.delimited import encode_delimited
from ipvcs.node.network.errors import ProtocolNotSupportedError

TELL_AGAIN: Final = 10.0
"""Seconds after which sessions may ask a peer again that could not be told anything."""
TELL_ATTEMPTS: Final = 3
"""Streams that are tried."""
_GONE: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, TimeoutError, IpvcsError)
"""What telling a peer may raise: whatever it answers when a stream is opened is no fault of ours."""

_log = logging.getLogger(__name__)


class Telling:
    """Sends wantlists. `tasks` is set while the service runs."""

    def __init__(self, peers: Mapping[PeerId, ExchangePeer], on_lost: Callable[[PeerId], None]) -> None:
        """Tell `peers`; `on_lost` is called with one that can't be told."""
        self._peers = peers
        self._on_lost = on_lost
        self._touched: dict[PeerId, ExchangePeer] = {}
        self.tasks: TaskGroup | None = None

    def touch(self, peer: ExchangePeer) -> None:
        """The wantlist of `peer` may have changed."""
        self._touched[peer.peer_id] = peer

    def start(self) -> None:
        """Tell everybody whose wantlist has changed."""
        touched, self._touched = self._touched, {}
        for peer in touched.values():
            if peer.wantlist.has_changes and not peer.is_telling and self.tasks is not None:
                peer.is_telling = True
                self.tasks.start_soon(self._tell, peer)

    async def _tell(self, peer: ExchangePeer) -> None:
        attempts = 0
        try:
            while peer.wantlist.has_changes and self._peers.get(peer.peer_id) is peer:
                try:
                    await self._tell_once(peer)
                    attempts = 0
                except ProtocolNotSupportedError:
                    peer.speaks_bitswap = False
                    self._give_up(peer)
                    return
                except _GONE as exc:
                    attempts += 1
                    if attempts == TELL_ATTEMPTS:
                        _log.debug("cannot tell %s what we want: %s", peer.peer_id, exc)
                        self._give_up(peer)
                        return
                    peer.wantlist.reconnected()
                    await anyio.sleep(0.1 * attempts)
        finally:
            peer.is_telling = False

    async def _tell_once(self, peer: ExchangePeer) -> None:
        stream = await peer.wants_out.open()
        entries, full = peer.wantlist.take(presences=stream.protocol == BITSWAP_120)
        if not entries:
            return
        for entry in entries:  # of HAVE, too: a small block may be the answer; of CANCEL: the block may be on its way
            peer.remember_asked(entry.cid.multihash)
        message = encode_wants(entries, full=full, protocol=stream.protocol)
        await peer.wants_out.send(stream, [encode_delimited(message)])

    def _give_up(self, peer: ExchangePeer) -> None:
        if self._peers.get(peer.peer_id) is peer:
            self._on_lost(peer.peer_id)
        peer.wantlist = PeerWantlist()
        peer.retry_at = anyio.current_time() + TELL_AGAIN
