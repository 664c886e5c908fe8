"""What no service asks a swarm for, and peers do all the same."""

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import Connection, PeerInfo
from ipvcs.node.network.swarm import Swarm


async def dial_again(swarm: Swarm, peer_id: PeerId, addr: Multiaddr) -> Connection:
    """Make a connection to a peer though one may stand, as two sides do that dial each other at once."""
    return await swarm._running().dial(PeerInfo(peer_id, (addr,)), force=True)
