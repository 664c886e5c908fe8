"""The IPLD codec fixtures: one value in several codecs, and what must be refused."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.car import CarReader

FOLDER = Path(__file__).parents[2] / "vectors" / "ipld-codec-fixtures"


@cache
def load() -> dict[str, dict[str, tuple[Cid, bytes]]]:
    """Return {name of the value: {name of the codec: (CID, block)}}; the blocks are checked against the CIDs."""
    with (FOLDER / "fixtures.car").open("rb") as file:
        blocks = {str(block.cid): block for block in CarReader(file).iter_blocks()}
    index: dict[str, dict[str, str]] = json.loads((FOLDER / "fixtures.json").read_text())
    return {
        name: {codec: (blocks[cid].cid, blocks[cid].data) for codec, cid in forms.items()}
        for name, forms in index.items()
    }


def load_of(codec: str) -> list[tuple[str, bytes]]:
    """Return (name, block) of every fixture in `codec`."""
    return [(name, forms[codec][1]) for name, forms in load().items() if codec in forms]


def load_negative(path: str) -> list[dict[str, Any]]:
    """Return the cases of one file of negative fixtures."""
    cases: list[dict[str, Any]] = json.loads((FOLDER / "negative-fixtures" / path).read_text())
    return cases
