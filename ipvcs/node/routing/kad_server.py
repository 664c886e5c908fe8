"""Serving the DHT's streams: read a request, answer it, and again, until the peer is done or gone.

A request that is refused resets the stream without a word, as the spec wants it. What a peer can make us do is bounded:
the size of a request, streams at once, and requests a second. Who asks too fast is not refused but made to wait, on as
many streams as it may have.

Spec: https://github.com/libp2p/specs/blob/master/kad-dht/README.md#rpc-messages
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, Lock, current_time, fail_after, sleep

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.delimited import DelimitedReader, send_delimited
from ipvcs.node.network.interface import PeerInfo, Stream
from ipvcs.node.network.token_bucket import TokenBucket
from ipvcs.node.routing.kad_answers import Answerer
from ipvcs.node.routing.kad_message import MAX_REQUEST, decode_message, encode_message

IDLE_TIMEOUT: Final = 60.0
"""Seconds in which a stream must bring a whole request. As go-libp2p-kad-dht."""
SEND_TIMEOUT: Final = 10.0
"""Seconds in which the peer must take an answer: it waits for it just as long."""
STREAMS_PER_PEER: Final = 32
"""At once. As js-libp2p; several lookups of one node meet at us now and then."""
STREAMS: Final = 2048
"""Of all peers at once."""
BURST: Final = 200.0
PER_SECOND: Final = 50.0
"""Requests of one peer at once and in the long run. Who announces a thousand roots is slowed down, not turned away."""
MAX_REMEMBERED: Final = 4096
"""Peers whose rate is remembered, the ones that asked last: who reconnects does not begin anew."""

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Client:
    requests: TokenBucket
    turn: Lock = field(default_factory=Lock)
    """Who waits for `requests`: one stream looks at the clock, the others wait for it."""
    streams: int = 0


class KadServer:
    """Serves streams. `serve` is the handler to give to the host."""

    def __init__(self, answerer: Answerer, wall_clock: Callable[[], float]) -> None:
        self._answerer = answerer
        self._wall_clock = wall_clock
        self._clients: OrderedDict[PeerId, _Client] = OrderedDict()
        self._streams = 0

    async def serve(self, stream: Stream) -> None:
        """Answer the requests of one stream."""
        client = self._client(stream.connection.remote_peer)
        if client.streams >= STREAMS_PER_PEER or self._streams >= STREAMS:
            stream.reset()
            return
        client.streams += 1
        self._streams += 1
        try:
            await self._serve(stream, client)
        except EndOfStream:
            pass
        except (BrokenResourceError, ClosedResourceError, TimeoutError, IpvcsError) as exc:
            _log.debug("serving %s ends: %s", stream.connection.remote_peer, str(exc) or type(exc).__name__)
            stream.reset()
        finally:
            client.streams -= 1
            self._streams -= 1

    async def _serve(self, stream: Stream, client: _Client) -> None:
        reader = DelimitedReader(stream, MAX_REQUEST)
        sender = PeerInfo(stream.connection.remote_peer, (stream.connection.remote_addr,))
        while True:
            with fail_after(IDLE_TIMEOUT):
                data = await reader.receive()
            async with client.turn:
                while not client.requests.take(current_time()):
                    await sleep(1 / PER_SECOND)
            answer = self._answerer.answer(decode_message(data), sender, self._wall_clock())
            if answer is not None:
                with fail_after(SEND_TIMEOUT):
                    await send_delimited(stream, encode_message(answer))

    def _client(self, peer_id: PeerId) -> _Client:
        client = self._clients.get(peer_id)
        if client is None:
            client = self._clients[peer_id] = _Client(TokenBucket(BURST, PER_SECOND, current_time()))
        self._clients.move_to_end(peer_id)
        while len(self._clients) > MAX_REMEMBERED:
            oldest = next((each for each, known in self._clients.items() if not known.streams), None)
            if oldest is None or oldest == peer_id:
                break  # bounded all the same: each of the others has one of STREAMS
            del self._clients[oldest]
        return client
