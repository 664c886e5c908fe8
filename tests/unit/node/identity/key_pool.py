"""Keys of every kind for tests: fixed ones, so that no test waits for primes."""

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ipvcs.node.identity.keys import KeyType, PrivateKey

VECTORS = Path(__file__).parents[3] / "vectors" / "peer-id"
SPEC = json.loads((VECTORS / "spec_keys.json").read_text())["keys"]

KEYS = {KeyType[name.upper()]: PrivateKey.decode(bytes.fromhex(pair["private"])) for name, pair in SPEC.items()}
"""The specification's keys, one of each type, but for RSA a smaller one that Go made."""
KEYS[KeyType.RSA] = PrivateKey.decode((VECTORS / "go-libp2p-crypto" / "0.priv").read_bytes())


def ed25519_key(number: int) -> PrivateKey:
    """Return the Ed25519 key with the seed `number`."""
    return PrivateKey(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32)))
