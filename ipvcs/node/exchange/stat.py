"""What Bitswap has done since the node started, as `bitswap stat` tells it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId


@dataclass(frozen=True, slots=True)
class BitswapStat:
    """Counts are of blocks, data is bytes of blocks. A duplicate is a block that was wanted but had come before."""

    wantlist: Sequence[Cid] = ()
    """What we want."""
    peers: Sequence[PeerId] = ()
    """Who is connected and speaks Bitswap."""
    blocks_received: int = 0
    """Duplicates included, as in Kubo."""
    data_received: int = 0
    dup_blocks_received: int = 0
    dup_data_received: int = 0
    messages_received: int = 0
    blocks_sent: int = 0
    data_sent: int = 0
    messages_sent: int = 0
    """Answers; Kubo does not tell."""
