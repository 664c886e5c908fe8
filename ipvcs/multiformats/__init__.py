"""Self-describing bytes: varint, multibase, multihash, CID, multiaddr, peer id."""
