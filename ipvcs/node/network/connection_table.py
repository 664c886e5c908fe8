"""Which connections stand: admission by rule and by limit, who hears of them, and each leaving once. No I/O here.

Several connections to one peer are kept when they come about, as when both sides dial at once: neither can know which
of two the other will use, so ending one would break streams on it. New streams go on the oldest.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.addresses import ip_group
from ipvcs.node.network.errors import DialError, GatedError
from ipvcs.node.network.interface import Connection, Notifiee
from ipvcs.node.network.limits import ConnectionLimitError, Limits

_log = logging.getLogger(__name__)

_GATED_HINT: Final = "the node's own rules say so: see its settings Swarm.AddrFilters, Swarm.Deny and Swarm.Allow"


class Gater(Protocol):
    """The node's own rules about whom to have to do with. Each answer is the reason against it, or None."""

    def why_not_dial(self, peer_id: PeerId | None, addr: Multiaddr) -> str | None:
        """Return why not to dial `addr`, to find `peer_id` there or, with None, anybody."""

    def why_not_accept(self, addr: Multiaddr) -> str | None:
        """Return why not to talk to somebody who comes from `addr`."""

    def why_not_stay(self, peer_id: PeerId) -> str | None:
        """Return why not to be connected to `peer_id`, who proved to be that."""


class OpenGate:
    """A Gater without rules."""

    def why_not_dial(self, peer_id: PeerId | None, addr: Multiaddr) -> str | None:
        """Dial anything."""

    def why_not_accept(self, addr: Multiaddr) -> str | None:
        """Take everybody."""

    def why_not_stay(self, peer_id: PeerId) -> str | None:
        """Keep everybody."""


class ConnectionTable:
    """The live connections of one swarm, oldest first."""

    def __init__(
        self, peer_id: PeerId, limits: Limits, gater: Gater, make_room: Callable[[], None] | None = None
    ) -> None:
        self._peer_id = peer_id
        self._limits = limits
        self._gater = gater
        self._make_room = make_room
        self._by_id: dict[int, Connection] = {}  # in order of admission; a Connection need not be hashable
        self._by_peer: dict[PeerId, list[Connection]] = {}
        self._by_ip: Counter[str] = Counter()
        self._notifiees: list[Notifiee] = []
        self._open = True

    def __len__(self) -> int:
        return len(self._by_id)

    def connections(self, peer_id: PeerId | None = None) -> list[Connection]:
        """Return the live connections, to one peer or to all, oldest first."""
        found = self._by_id.values() if peer_id is None else self._by_peer.get(peer_id, ())
        return [connection for connection in found if not connection.is_closed]

    def oldest(self, peer_id: PeerId) -> Connection | None:
        """Return the live connection to `peer_id` that new streams go on, if there is one."""
        return next((each for each in self._by_peer.get(peer_id, ()) if not each.is_closed), None)

    def check_peer(self, peer_id: PeerId) -> None:
        """Raise GatedError when the rules are against `peer_id`."""
        if (reason := self._gater.why_not_stay(peer_id)) is not None:
            raise GatedError(f"not allowed to connect to '{peer_id}': {reason}", hint=_GATED_HINT)

    def check_room(self) -> None:
        """Raise ConnectionLimitError when no connection more may stand. Then idle ones are asked to go."""
        if len(self._by_id) < self._limits.connections:
            return
        self._drop_closed()
        if len(self._by_id) >= self._limits.connections:
            if self._make_room is not None:
                self._make_room()
            raise ConnectionLimitError(
                f"{self._limits.connections} connections are open, which is the limit",
                hint="idle ones are being closed, try again; lower Swarm.ConnMgr.HighWater to have that sooner",
            )

    def admit(self, connection: Connection) -> None:
        """Take `connection` in and tell the notifiees; when this raises, the caller ends it.

        Raises:
            GatedError: the rules are against the peer, or against where it came from.
            ConnectionLimitError: too many connections stand: in all, to this peer, or from its IP address.
            DialError: it leads to ourselves, has ended already, or this node is shutting down.
        """
        peer_id = connection.remote_peer
        if not self._open:
            raise DialError("this node is shutting down")
        if peer_id == self._peer_id:
            raise DialError("this very node answered")
        if connection.is_closed:
            raise DialError(f"'{peer_id}' ended the connection at once")
        self.check_peer(peer_id)
        inbound = connection.direction == "inbound"
        if inbound and (reason := self._gater.why_not_accept(connection.remote_addr)) is not None:
            raise GatedError(f"not allowed to accept from '{connection.remote_addr}': {reason}", hint=_GATED_HINT)
        self.check_room()
        if len(self._by_peer.get(peer_id, ())) >= self._limits.connections_per_peer:
            raise ConnectionLimitError(f"{self._limits.connections_per_peer} connections to '{peer_id}' are open")
        group = ip_group(connection.remote_addr) if inbound else None
        if group is not None:
            if self._by_ip[group] >= self._limits.connections_per_ip:
                raise ConnectionLimitError(f"{self._limits.connections_per_ip} connections from {group} are open")
            self._by_ip[group] += 1
        self._by_id[id(connection)] = connection
        self._by_peer.setdefault(peer_id, []).append(connection)
        for notifiee in tuple(self._notifiees):
            _tell(notifiee.connected, connection)

    def remove(self, connection: Connection) -> bool:
        """Forget `connection`, which ended, and tell the notifiees. False, and nothing, when it is not in the table."""
        if self._by_id.pop(id(connection), None) is None:
            return False
        peers = self._by_peer[connection.remote_peer]
        peers[:] = [each for each in peers if each is not connection]
        if not peers:
            del self._by_peer[connection.remote_peer]
        if connection.direction == "inbound" and (group := ip_group(connection.remote_addr)) is not None:
            self._by_ip[group] -= 1
            if not self._by_ip[group]:
                del self._by_ip[group]
        for notifiee in tuple(self._notifiees):
            _tell(notifiee.disconnected, connection)
        return True

    def close(self) -> Sequence[Connection]:
        """Admit nothing more; return what stands, for the caller to end."""
        self._open = False
        return tuple(self._by_id.values())

    def subscribe(self, notifiee: Notifiee) -> None:
        """Tell `notifiee` of those that stand, now, and of every one from now on."""
        self._notifiees.append(notifiee)
        for connection in self.connections():
            _tell(notifiee.connected, connection)

    def unsubscribe(self, notifiee: Notifiee) -> None:
        """Tell `notifiee` of nothing more."""
        self._notifiees = [each for each in self._notifiees if each is not notifiee]

    def _drop_closed(self) -> None:
        """Forget what has ended though nobody has said so yet."""
        for connection in [each for each in self._by_id.values() if each.is_closed]:
            self.remove(connection)


def _tell(call: Callable[[Connection], None], connection: Connection) -> None:
    try:
        call(connection)
    except Exception:
        # A service's bug must not keep the others from hearing, nor end the connection's own task.
        _log.exception("a service failed to take note of a connection to %s", connection.remote_peer)
