"""Who a node is: its keys, its NodeId, and the puzzle that makes ids costly (white paper §3.1)."""
