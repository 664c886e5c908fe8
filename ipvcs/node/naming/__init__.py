"""Naming: mutable names for immutable objects, by IPNS and DNSLink (white paper §3.7)."""
