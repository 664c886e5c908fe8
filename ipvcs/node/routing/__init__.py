"""Routing: where peers are, who has what, and small values under keys (white paper §3.3)."""
