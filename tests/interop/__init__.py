"""Tests against implementations that nobody here wrote: real Kubo and real Helia, on loopback."""
