"""Bytes at rest: the home, its blockstore, pins and garbage collection."""
