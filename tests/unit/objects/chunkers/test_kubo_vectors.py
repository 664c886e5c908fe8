"""Rabin and buzhash cut where Kubo cuts."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from ipvcs.objects.chunkers.registry import parse_chunker
from tests.streams import from_input
from tests.unit.objects.chunkers.readers import lengths

_VECTORS = json.loads((Path(__file__).parents[3] / "vectors/chunker/rabin_buzhash.json").read_text())


@lru_cache
def _data(spec: str) -> bytes:
    return from_input(json.loads(spec))


@pytest.mark.parametrize("vector", _VECTORS, ids=lambda v: f"{v['chunker']} {json.dumps(v['input'])}")
def test_cuts_are_those_of_the_upstream_code(vector: dict[str, Any]) -> None:
    data = _data(json.dumps(vector["input"]))
    assert hashlib.sha256(data).hexdigest() == vector["data_sha256"]

    found = lengths(parse_chunker(vector["chunker"]), data)

    assert len(found) == vector["count"]
    if "lengths" in vector:
        assert found == vector["lengths"]
    else:  # too many to list
        assert found[:64] == vector["lengths_first64"]
        assert hashlib.sha256(",".join(map(str, found)).encode()).hexdigest() == vector["lengths_sha256"]
