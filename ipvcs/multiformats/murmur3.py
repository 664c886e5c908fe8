"""murmur3-x64-64: the hash that places a name in a HAMT directory. It protects nothing and names no block.

Spec: https://specs.ipfs.tech/unixfs/ ("HAMT Structure"); MurmurHash3 x64_128 with seed 0, of which h1 is kept
"""


def murmur3_x64_64(data: bytes) -> bytes:
    """Return the first 64 bits of MurmurHash3 x64_128 of `data`: 8 bytes, big-endian."""
    import mmh3  # compiled, and only sharded directories need it

    return mmh3.hash64(data, 0, True, signed=False)[0].to_bytes(8, "big")
