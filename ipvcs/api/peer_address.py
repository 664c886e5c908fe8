"""Peers as clients name them: an address that ends in `/p2p/<NodeId>`, or that part alone."""

from ipvcs.api.arguments import BadRequestError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId


def parse_peer_address(text: str) -> tuple[PeerId, Multiaddr | None]:
    """Return the peer that the address `text` leads to, and where that is, None if the address does not say it.

    Raises:
        MultiaddrError: not an address.
        BadRequestError: it does not end in a peer.
    """
    addr = Multiaddr.parse(text)
    if addr.peer_id is None or addr.protocols[-1] != "p2p":
        raise BadRequestError(
            f"address '{text}' does not say which peer it leads to", hint="end it with '/p2p/<NodeId>'"
        )
    return addr.peer_id, addr.decapsulate(Multiaddr.parse(f"/p2p/{addr.peer_id}"))
