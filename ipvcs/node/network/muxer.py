"""What a stream multiplexer is to the rest of the network: a pure state machine over one secured connection.

Bytes come in, events and bytes go out; streams are named by opaque `StreamKey`s. Time is an argument.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ipvcs.errors import LimitError, RemoteProtocolError
from ipvcs.node.network.interface import Buffer

StreamKey: TypeAlias = Hashable


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened `key`."""

    key: StreamKey


@dataclass(frozen=True, slots=True)
class DataReceived:
    """`data` arrived on `key`: a view into what `receive_data` was given. Report what the reader took by `consumed`."""

    key: StreamKey
    data: Buffer


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer sends no more on `key`."""

    key: StreamKey


@dataclass(frozen=True, slots=True)
class StreamReset:
    """`key` is gone: the peer abandoned it, or it broke a bound of ours (`reason`)."""

    key: StreamKey
    reason: str = "the peer reset the stream"


@dataclass(frozen=True, slots=True)
class SendReady:
    """`send` on `key` may take bytes again."""

    key: StreamKey


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The answer to our ping: `rtt` seconds after it."""

    rtt: float


@dataclass(frozen=True, slots=True)
class GoAwayReceived:
    """The peer will open and accept no more streams."""

    code: int


MuxerEvent: TypeAlias = (
    StreamOpened | DataReceived | StreamEnded | StreamReset | SendReady | PongReceived | GoAwayReceived
)


class MuxerError(RemoteProtocolError):
    """The peer broke the multiplexer's protocol; the connection ends."""


class TooManyStreamsError(LimitError):
    """A bound on open streams was reached."""


class MuxerSession(Protocol):
    """One side of a multiplexed connection."""

    protocol_id: str

    def receive_data(self, data: Buffer, now: float) -> None:
        """Take bytes from the peer, which must never change again (events hold views into them)."""

    def next_event(self) -> MuxerEvent | None:
        """Return the oldest unreported event, or None when more bytes are needed.

        Raises:
            MuxerError: the peer broke the protocol; send `data_to_send()`, then close. Asked again, it raises again.
        """

    def data_to_send(self) -> list[Buffer]:
        """Return what is owed to the peer, in order, and forget it. Parts are whole headers or payloads."""

    def open_stream(self) -> StreamKey:
        """Open a stream. Raises TooManyStreamsError, LocalProtocolError after a go-away."""

    def send(self, key: StreamKey, data: memoryview) -> int:
        """Queue as much of `data` as the peer will take now and return how many bytes; 0: wait for SendReady."""

    def end(self, key: StreamKey) -> None:
        """Send no more on `key`. Harmless on one that is gone."""

    def reset(self, key: StreamKey) -> None:
        """Abandon `key`. Harmless on one that is gone."""

    def refuse(self, key: StreamKey) -> None:
        """Abandon `key`, which the peer opened, for lack of room; a peer that causes many ends its connection."""

    def consumed(self, key: StreamKey, size: int, now: float) -> None:
        """The reader took `size` bytes of `key`: makes room for as many. Harmless on one that is gone."""

    def discard(self, key: StreamKey) -> None:
        """Nobody reads `key` any more: drop what arrives without making room for more than it takes to end it."""

    def ping(self, now: float) -> bool:
        """Ask for a PongReceived; False when the protocol has no pings."""

    def go_away(self) -> None:
        """Tell the peer that we open and accept no more streams."""
