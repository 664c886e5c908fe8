import json
from pathlib import Path

import pytest

from ipvcs.multiformats.murmur3 import murmur3_x64_64

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "hamt" / "murmur3_x64_128.json").read_text())


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector["seed"] == 0], ids=lambda vector: vector["text"]
)
def test_the_first_half_of_the_hash_is_written_big_endian(vector: dict[str, str]) -> None:
    assert murmur3_x64_64(vector["text"].encode()) == int(vector["h1"], 16).to_bytes(8, "big")
