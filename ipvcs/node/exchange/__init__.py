"""Exchange: blocks from peers and for peers, by Bitswap (white paper §3.4)."""
