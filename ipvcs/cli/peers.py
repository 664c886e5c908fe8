"""How a peer is named on the command line: a NodeId, or a multiaddr that ends in one."""

from typing import TYPE_CHECKING

from ipvcs.errors import UsageError

if TYPE_CHECKING:
    from ipvcs.multiformats.multiaddr import Multiaddr
    from ipvcs.multiformats.peer_id import PeerId


class NoPeerIdError(UsageError):
    """An address does not say who is to answer there, so nobody could prove to be right."""

    def __init__(self, addr: "Multiaddr") -> None:
        super().__init__(f"address '{addr}' names no peer", hint=f"write '{addr}/p2p/NODEID'")
        self.addr = addr


def parse_peer(text: str) -> "PeerId":
    """Return the peer that `text` names.

    Raises:
        MultiaddrError, PeerIdError: it is neither form. NoPeerIdError: an address alone.
    """
    from ipvcs.multiformats.multiaddr import Multiaddr
    from ipvcs.multiformats.peer_id import PeerId

    if not text.startswith("/"):
        return PeerId.parse(text)
    addr = Multiaddr.parse(text)
    if (peer := addr.peer_id) is None:
        raise NoPeerIdError(addr)
    return peer
