"""A link: bytes both ways between two hosts, before anybody proved anything. What TCP gives, and later WebSocket.

During the handshakes somebody awaits `receive`. Then a `WireSink` is attached, and everything that arrives goes to it
by a plain call, in views into a buffer that the next read reuses: no task, no queue and no copy in between.
"""

from typing import Protocol

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network.interface import Buffer


class WireSink(Protocol):
    """Takes what arrives on a link."""

    def wire_received(self, data: memoryview) -> int:
        """Use up `data`, or its beginning, and return how much. What is left comes again, in front of more; it must
        stay below a message of 64 KiB. `data` is valid during the call only.
        """

    def wire_lost(self, error: Exception | None) -> None:
        """The link has ended: None when the other side closed it or we did."""

    def wire_paused(self) -> None:
        """More is waiting to be sent than should: write no more data until `wire_resumed`."""

    def wire_resumed(self) -> None:
        """There is room again."""


class Link(Protocol):
    """One end of a link."""

    @property
    def local_addr(self) -> Multiaddr:
        """Our end."""

    @property
    def remote_addr(self) -> Multiaddr:
        """Their end."""

    async def receive(self) -> bytes:
        """Return what arrived, at least a byte; for handshakes, before `attach`.

        Raises anyio's EndOfStream and BrokenResourceError.
        """

    def attach(self, sink: WireSink, rest: Buffer) -> None:
        """From now on give all that arrives to `sink`, beginning with `rest`, which was received and not used."""

    def write(self, data: Buffer) -> None:
        """Send `data`, or queue it; never waits. On a dead link: nothing. `data` must not change any more."""

    def pause_reading(self) -> None:
        """Give the sink nothing more until `resume_reading`; the link may end all the same. The sink may call both
        whenever it likes.
        """

    def resume_reading(self) -> None:
        """Go on reading."""

    @property
    def write_backlog(self) -> int:
        """Bytes that wait to be sent."""

    @property
    def bytes_sent(self) -> int:
        """Bytes that the system has taken from us so far."""

    def close(self) -> None:
        """Send what is queued, then end."""

    def abort(self) -> None:
        """End at once."""
