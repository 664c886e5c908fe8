"""How many CIDs a second, ours beside PyPI `multiformats` and `libipld`: `python -m bench cids [SECONDS A FIGURE]`.

One process, one core, CIDs that are all different. The goals for ours: 300k/s decoded, 80k/s printed.
"""

import hashlib
import sys
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import libipld
import multiformats

from ipvcs.multiformats.cid import Cid

COUNT = 2000
ROUNDS = 5

Row = tuple[str, Sequence[Any], dict[str, Callable[[Any], Any]]]


def rate(function: Callable[[Any], Any], values: Sequence[Any], seconds: float) -> float:
    """Return calls a second: the best of `ROUNDS` rounds that together take about `seconds`."""
    best = 0.0
    for _ in range(ROUNDS):
        calls, start = 0, perf_counter()
        while (elapsed := perf_counter() - start) < seconds / ROUNDS:
            for value in values:
                function(value)
            calls += len(values)
        best = max(best, calls / elapsed)
    return best


def rows() -> list[Row]:
    """Return (what is done, to what, by whom)."""
    binary = [b"\x01\x55\x12\x20" + hashlib.sha256(b"%d" % number).digest() for number in range(COUNT)]
    odd = [b"\x01\x71\x1e\x20" + raw[4:] for raw in binary]  # dag-cbor, blake3: no fast path
    v0 = [raw[2:] for raw in binary]
    ours = [Cid.decode(raw) for raw in binary]
    ours_v0 = [Cid.decode(raw) for raw in v0]
    theirs = [multiformats.CID.decode(raw) for raw in binary]
    theirs_v0 = [multiformats.CID.decode(raw) for raw in v0]
    texts, texts_v0 = [str(cid) for cid in ours], [str(cid) for cid in ours_v0]
    parse, parse_theirs = Cid.parse, multiformats.CID.decode
    twins = [(cid, Cid.decode(bytes(bytearray(cid.raw)))) for cid in ours]
    their_twins = [(cid, multiformats.CID.decode(bytes(cid))) for cid in theirs]

    def equal(pair: tuple[object, object]) -> bool:
        return pair[0] == pair[1]

    return [
        ("decode, v1 raw sha2-256", binary, {"ipvcs": Cid.decode, "multiformats": parse_theirs}),
        ("decode, v1 dag-cbor blake3", odd, {"ipvcs": Cid.decode, "multiformats": parse_theirs}),
        ("decode, v0", v0, {"ipvcs": Cid.decode, "multiformats": parse_theirs}),
        ("print, base32, from a CID", ours, {"ipvcs": str}),
        ("print, base32, from a CID", theirs, {"multiformats": str}),
        (
            "print, base32, from bytes",
            binary,
            {"ipvcs": lambda raw: str(Cid.decode(raw)), "libipld": libipld.encode_cid},
        ),
        ("print, v0", ours_v0, {"ipvcs": str}),
        ("print, v0", theirs_v0, {"multiformats": str}),
        ("parse, base32", texts, {"ipvcs": parse, "multiformats": parse_theirs, "libipld": libipld.decode_cid}),
        ("parse, v0", texts_v0, {"ipvcs": parse, "multiformats": parse_theirs, "libipld": libipld.decode_cid}),
        ("hash", ours, {"ipvcs": hash}),
        ("hash", theirs, {"multiformats": hash}),
        ("equal, other bytes object", twins, {"ipvcs": equal}),
        ("equal, other bytes object", their_twins, {"multiformats": equal}),
    ]


def main(words: list[str]) -> None:
    """Print the table; a dash is what a library has no call for."""
    seconds = float(words[0]) if words else 0.5
    columns = ("ipvcs", "multiformats", "libipld")
    table: dict[str, dict[str, float]] = {}
    for what, values, functions in rows():
        for name, function in functions.items():
            table.setdefault(what, {})[name] = rate(function, values, seconds)
    print(f"Python {sys.version.split()[0]}, thousands a second")
    print(f"{'':30}" + "".join(f"{name:>14}" for name in columns))
    for what, rates in table.items():
        cells = [f"{rates[name] / 1000:,.1f}" if name in rates else "-" for name in columns]
        print(f"{what:30}" + "".join(f"{cell:>14}" for cell in cells))
