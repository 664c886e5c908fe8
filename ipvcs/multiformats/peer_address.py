"""Peers as people and clients name them: an address that ends in `/p2p/<NodeId>`, that part alone, or a bare NodeId.

A bare address is refused: nobody who answers there could prove to be the right one.

Spec: https://github.com/libp2p/specs/blob/master/addressing/README.md, "p2p multiaddrs"
"""

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.multiformats.typed import ArgumentError, parse_typed


class NoPeerIdError(ArgumentError):
    """An address does not say who is to answer there."""

    def __init__(self, subject: str) -> None:
        super().__init__(
            f"address '{subject}' does not say which peer it leads to", subject, hint="end it with '/p2p/<NodeId>'"
        )


def parse_peer_address(text: str) -> tuple[PeerId, Multiaddr | None]:
    """Return the peer that the address `text` leads to, and where that is, None if the address does not say it.

    Raises:
        ArgumentError: not an address. NoPeerIdError: one that does not end in a peer.
    """
    addr = parse_typed(Multiaddr.parse, text)
    if addr.peer_id is None or addr.protocols[-1] != "p2p":
        raise NoPeerIdError(text)
    return addr.peer_id, addr.decapsulate(Multiaddr.parse(f"/p2p/{addr.peer_id}"))


def parse_peer(text: str) -> tuple[PeerId, Multiaddr | None]:
    """Return the peer that `text`, a NodeId or an address, names, and where it is if it says so. Errors as above."""
    if text.startswith("/"):
        return parse_peer_address(text)
    return parse_typed(PeerId.parse, text), None
