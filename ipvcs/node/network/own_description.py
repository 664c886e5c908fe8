"""What we tell others of ourselves: identify's message and our signed peer record, made anew when something changes.

Pure: the host's protocols and addresses and the time come in, messages go out.

Spec: https://github.com/libp2p/specs/blob/master/identify/README.md
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.network.addresses import Scope, scope_of
from ipvcs.node.network.identify_message import MAX_ADDRS, OWN_TOTAL, IdentifyMessage, encode_messages
from ipvcs.node.network.peer_record import seal

PROTOCOL_VERSION: Final = "ipfs/0.1.0"
"""What Kubo and Helia send."""
_MAX_OBSERVED: Final = 192
"""Bytes kept free for the address that we see the peer at; a longer one (through a relay) is not told."""
_USE: Final = {Scope.PUBLIC: 0, Scope.NAME: 0, Scope.PRIVATE: 1, Scope.LINK_LOCAL: 2, Scope.LOOPBACK: 3}
"""Lower is told first; what is not here can't be dialled and is not told."""


class OwnDescription:
    """Our message, in two versions: loopback addresses are for peers on this machine alone."""

    def __init__(self, private_key: PrivateKey, agent_version: str) -> None:
        self.version = 0
        """Grows with every change; 0 before the first `update`."""
        self._private_key = private_key
        self._base = IdentifyMessage(
            public_key=private_key.public_key.encode(),
            protocol_version=PROTOCOL_VERSION,
            agent_version=agent_version,
        )
        self._addrs: tuple[Multiaddr, ...] = ()
        self._messages: dict[bool, IdentifyMessage] = {}
        self._seq = 0
        self._now = 0.0

    def update(self, protocols: Iterable[str], addrs: Iterable[Multiaddr], now: float) -> bool:
        """Take what the host serves and where, and tell whether that is news. `now` is in seconds since 1970."""
        protocols = tuple(sorted(protocols))
        usable = (addr for addr in dict.fromkeys(addrs) if scope_of(addr) in _USE)
        addrs = tuple(sorted(usable, key=lambda addr: _USE[scope_of(addr)]))
        if self.version and (protocols, addrs) == (self._base.protocols, self._addrs):
            return False
        self._base = replace(self._base, protocols=protocols)
        self._addrs = addrs
        self._now = now
        self._messages.clear()
        self.version += 1
        return True

    def encode_for(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> bytes:
        """Return what travels to the peer at `remote_addr`, which is connected to our `local_addr`.

        Sorted by use (public, private, loopback), addresses are left out from the end until all of it is within what
        every implementation reads.
        """
        is_local = Scope.LOOPBACK in (scope_of(local_addr), scope_of(remote_addr))
        message = self._messages.get(is_local)
        if message is None:
            message = self._messages[is_local] = self._make(
                [addr for addr in self._addrs if is_local or scope_of(addr) is not Scope.LOOPBACK]
            )
        observed = remote_addr if len(remote_addr.raw) <= _MAX_OBSERVED else None
        return encode_messages(replace(message, observed_addr=observed))

    def _make(self, addrs: Sequence[Multiaddr]) -> IdentifyMessage:
        addrs = list(addrs[:MAX_ADDRS])
        while True:
            self._seq = max(self._seq + 1, int(self._now * 1e9))  # nanoseconds, as Go: a key may have served there
            record = seal(self._private_key, self._seq, addrs)
            message = replace(self._base, listen_addrs=tuple(addrs), signed_peer_record=record)
            excess = len(encode_messages(message)) + _MAX_OBSERVED - OWN_TOTAL
            if excess <= 0 or not addrs:
                return message
            while excess > 0 and addrs:
                excess -= 2 * len(addrs.pop().raw)  # it is in the message twice
