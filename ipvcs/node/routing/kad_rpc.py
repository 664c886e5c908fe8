"""Asking one peer one thing.

A stream carries several requests, one after the other, so the stream of a finished request is kept for the next one for
a few seconds. Who asks while another request is under way gets a stream of his own: nobody waits for somebody else's
answer. A kept stream may have been reset by the peer in the meantime, which shows only when it is used: then the
request goes out once more, on a new one.

Spec: https://github.com/libp2p/specs/blob/master/kad-dht/README.md#rpc-messages
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, current_time, fail_after

from ipvcs.errors import UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.delimited import DelimitedReader, send_delimited
from ipvcs.node.network.interface import Host, PeerInfo, Stream
from ipvcs.node.network.message_budget import MessageBudget
from ipvcs.node.routing.kad_message import MAX_MESSAGE, KadMessage, KadMessageError, decode_message, encode_message

TIMEOUT: Final = 10.0
"""Seconds for one request, from the dial to the last byte of the answer. As go-libp2p-kad-dht."""
KEEP_IDLE: Final = 10.0
"""Seconds that a stream is kept without a request: from one step of an operation to the next. A connection with an open
stream counts as one in use, so not for longer; servers end idle ones after a minute."""
MAX_IDLE: Final = 128
"""Streams kept, of all peers. One a peer."""

FREE_ANSWER: Final = 64 * 1024
"""Bytes of an answer that is always read: honest ones have under 32 KiB, with every provider there is."""
MAX_HELD: Final = 16 * 1024 * 1024
"""Bytes that all larger answers under way have declared, in one DHT. When it is used up the oldest is given up."""

_DEAD: Final = (BrokenResourceError, ClosedResourceError, EndOfStream)


class KadRequestError(UnavailableError):
    """A peer did not answer a request."""

    def __init__(self, peer_id: PeerId, reason: str) -> None:
        super().__init__(f"no answer from '{peer_id}': {reason}")
        self.peer_id = peer_id


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer said, and where its end of the connection is."""

    message: KadMessage
    remote_addr: Multiaddr


@dataclass(slots=True)
class _Channel:
    """A stream and what reads it."""

    stream: Stream
    reader: DelimitedReader
    idle_since: float = 0.0


class KadRpc:
    """Sends requests of one protocol over a host's connections, dialling if need be."""

    def __init__(self, host: Host, protocol: str, *, clock: Callable[[], float] = current_time) -> None:
        self._host = host
        self._protocol = protocol
        self._clock = clock
        self._budget = MessageBudget(MAX_HELD)
        self._idle: OrderedDict[PeerId, _Channel] = OrderedDict()
        """The one idle longest first."""

    async def ask(self, peer: PeerInfo, request: KadMessage, *, timeout: float = TIMEOUT) -> Answer:
        """Send `request` to `peer`, and return its answer. Cancelling ends the stream.

        Raises:
            DialError, GatedError, LimitError: it can't be reached.
            ProtocolNotSupportedError: it does not serve the DHT.
            KadRequestError: no answer in time, or the stream broke.
            RemoteProtocolError, MessageTooLargeError: what came is no message, or too large, or answers something else.
            LimitError: it is a large one, and there is no room for more of these.
        """
        try:
            with fail_after(timeout):
                kept = self._take_idle(peer.peer_id)
                if kept is not None:
                    try:
                        return await self._exchange(kept, request)
                    except _DEAD:  # reset while it was idle, most likely
                        pass
                return await self._exchange(await self._open(peer), request)
        except TimeoutError:
            raise KadRequestError(peer.peer_id, f"it took over {timeout:g} seconds") from None
        except _DEAD as exc:
            raise KadRequestError(peer.peer_id, str(exc) or "it ended the stream") from exc

    async def tell(self, peer: PeerInfo, *requests: KadMessage, timeout: float = TIMEOUT) -> None:
        """Send `requests`, of a kind that is not answered, as ADD_PROVIDER; an answer all the same is dropped.

        Always on one stream of their own, which ends behind them: an answer can't be mistaken for another one.
        Raises as `ask`; that the peer took it is not known.
        """
        try:
            with fail_after(timeout):
                channel = await self._open(peer)
                try:
                    await send_delimited(channel.stream, *map(encode_message, requests))
                except BaseException:
                    channel.stream.reset()
                    raise
                await channel.stream.aclose()
        except TimeoutError:
            raise KadRequestError(peer.peer_id, f"it took over {timeout:g} seconds") from None
        except _DEAD as exc:
            raise KadRequestError(peer.peer_id, str(exc) or "it ended the stream") from exc

    def drop_idle(self, peer_id: PeerId | None = None) -> None:
        """End the stream kept for `peer_id`; None: all of them."""
        for each in list(self._idle) if peer_id is None else [peer_id]:
            if (channel := self._idle.pop(each, None)) is not None:
                channel.stream.reset()

    def drop_expired(self) -> float | None:
        """End the streams kept for long enough; return when to call again, None when none is kept."""
        now = self._clock()
        while self._idle:
            peer_id, channel = next(iter(self._idle.items()))
            if now - channel.idle_since < KEEP_IDLE:
                return channel.idle_since + KEEP_IDLE
            self.drop_idle(peer_id)
        return None

    async def _open(self, peer: PeerInfo) -> _Channel:
        await self._host.connect(peer)  # the addresses we heard go with the dial, and into no book
        stream = await self._host.open_stream(peer.peer_id, [self._protocol])
        return _Channel(stream, DelimitedReader(stream, MAX_MESSAGE, budget=self._budget, free=FREE_ANSWER))

    async def _exchange(self, channel: _Channel, request: KadMessage) -> Answer:
        peer_id = channel.stream.connection.remote_peer
        try:
            await send_delimited(channel.stream, encode_message(request))
            message = decode_message(await channel.reader.receive())
            if message.type != request.type:
                raise KadMessageError(f"'{peer_id}' answers {request.type.name} with {message.type.name}")
            if channel.reader.rest:
                raise KadMessageError(f"'{peer_id}' says more than was asked")
        except BaseException:
            channel.stream.reset()
            raise
        self._keep(peer_id, channel)
        return Answer(message, channel.stream.connection.remote_addr)

    def _take_idle(self, peer_id: PeerId) -> _Channel | None:
        self.drop_expired()
        return self._idle.pop(peer_id, None)

    def _keep(self, peer_id: PeerId, channel: _Channel) -> None:
        channel.idle_since = self._clock()
        self.drop_idle(peer_id)
        self._idle[peer_id] = channel
        while len(self._idle) > MAX_IDLE:
            self.drop_idle(next(iter(self._idle)))
