"""The addresses a swarm listens on: several at once, and a free port where the wanted one is taken."""

import logging
from collections.abc import Iterable, Sequence

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network.errors import ListenError
from ipvcs.node.network.interface import AcceptCallback, Listener, Transport

_log = logging.getLogger(__name__)


class Listening:
    """The listeners of one swarm."""

    def __init__(self, transports: Sequence[Transport], accept: AcceptCallback) -> None:
        self._transports = transports
        self._accept = accept
        self._listeners: list[Listener] = []

    @property
    def addrs(self) -> tuple[Multiaddr, ...]:
        """Where it listens: ports resolved, wildcards as they are."""
        return tuple(dict.fromkeys(addr for listener in self._listeners for addr in listener.addrs))

    async def listen(self, addrs: Iterable[Multiaddr], *, any_port: bool = False) -> tuple[Multiaddr, ...]:
        """Listen on `addrs` besides what there is; return where that is.

        An address that can't be had is logged and left out as long as another can: a machine without IPv6 still serves
        IPv4. Cancelling keeps those that were bound.

        Args:
            addrs: where; port 0 is any free one.
            any_port: where a port is taken, take any free one.

        Raises:
            ListenError: not one of them can be listened on; of several reasons, the first.
        """
        bound: list[Multiaddr] = []
        failures: list[ListenError] = []
        for addr in addrs:
            try:
                listener = await self._bind(addr, any_port=any_port)
            except ListenError as exc:
                failures.append(exc)
            else:
                self._listeners.append(listener)
                bound += listener.addrs
        if failures and not bound:
            raise failures[0]
        for failure in failures:
            _log.warning("%s", failure)
        return tuple(bound)

    async def aclose(self) -> None:
        """Listen nowhere."""
        while self._listeners:
            await self._listeners.pop().aclose()

    async def _bind(self, addr: Multiaddr, *, any_port: bool) -> Listener:
        try:
            return await self._bind_exactly(addr)
        except ListenError as exc:
            other = with_any_port(addr)
            if not any_port or other == addr:
                raise
            try:
                listener = await self._bind_exactly(other)
            except ListenError:  # it was not the port
                raise exc from None
            _log.warning("%s; listening on '%s' instead", exc, ", ".join(map(str, listener.addrs)))
            return listener

    async def _bind_exactly(self, addr: Multiaddr) -> Listener:
        for transport in self._transports:
            if transport.can_dial(addr):
                return await transport.listen(addr, self._accept)
        raise ListenError(addr, "no transport for this kind of address")


def with_any_port(addr: Multiaddr) -> Multiaddr:
    """Return `addr` with its TCP and UDP ports 0."""
    parts = [(name, "0" if name in ("tcp", "udp") else value) for name, value in addr]
    return Multiaddr.parse("".join(f"/{name}/{value}" if value else f"/{name}" for name, value in parts))
