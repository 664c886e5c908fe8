"""What tests of names share: the specification's records, keys, and an easy way to make records."""

import json
from pathlib import Path
from typing import Any

from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.naming.record import IpnsRecord
from ipvcs.node.naming.validity import NS
from tests.unit.node.identity.key_pool import ed25519_key

VECTORS = Path(__file__).parents[3] / "vectors" / "ipns"
EXPECTED: list[dict[str, Any]] = json.loads((VECTORS / "expected.json").read_text())
JS: list[dict[str, Any]] = json.loads((VECTORS / "js_records.json").read_text())
ACCEPTED = [case for case in EXPECTED if case["expect"] == "accept"]

NOW = 1_800_000_000.0
"""Seconds since 1970 at which these tests begin: in 2027."""
HOUR = 3600.0
ALICE, BOB, CAROL = (ed25519_key(number) for number in (101, 102, 103))
A, B, C = "/ipfs/bafkqaaa", "/ipfs/bafkqadtwgiww63tmpeqhezldn5zgi", "/ipfs/bafkqaddwgevxmmraojswg33smq"


def raw_of(case: dict[str, Any]) -> bytes:
    """Return the record of one of `EXPECTED`."""
    return (VECTORS / str(case["file"])).read_bytes()


def record(
    key: PrivateKey = ALICE,
    value: str = A,
    sequence: int = 0,
    *,
    expires: float = NOW + 48 * HOUR,
    ttl: float = 300.0,
    legacy: bool = True,
) -> IpnsRecord:
    """Make a record; `expires` is seconds since 1970, `ttl` seconds."""
    return IpnsRecord.sign(
        key,
        value.encode(),
        sequence=sequence,
        expires_ns=int(expires * NS),
        ttl_ns=int(ttl * NS),
        legacy=legacy,
    )
