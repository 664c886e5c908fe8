"""The deterministic inputs are the ones that published vectors were made of."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests import streams

_VECTORS = json.loads((Path(__file__).parents[3] / "vectors/chunker/streams.json").read_text())
_MIB = 1024 * 1024


def _is_slow(vector: dict[str, Any]) -> bool:
    return "chacha20" not in vector["input"] and vector["input"]["size"] > 4 * _MIB


@pytest.mark.parametrize(
    "vector",
    [pytest.param(v, id=json.dumps(v["input"]), marks=[pytest.mark.long] if _is_slow(v) else []) for v in _VECTORS],
)
def test_stream_has_the_published_digest(vector: dict[str, Any]) -> None:
    data = streams.from_input(vector["input"])

    assert len(data) == vector["input"]["size"]
    assert hashlib.sha256(data).hexdigest() == vector["data_sha256"]


def test_a_raw_seed_is_text_or_the_same_bytes() -> None:
    seed = "abcdefghijklmnopqrstuvwxyz012345"

    assert streams.chacha8_rawseed(seed, 100) == streams.chacha8_rawseed(seed.encode(), 100)


@pytest.mark.parametrize("size", [0, 1, 991, 992, 993, 1984])
def test_a_shorter_stream_is_the_beginning_of_a_longer_one(size: int) -> None:
    assert streams.chacha8_stream(5, size) == streams.chacha8_stream("5", 3000)[:size]
    assert streams.chacha20_stream("x", size) == streams.chacha20_stream("x", 3000)[:size]


def test_other_kinds_are_what_their_names_say() -> None:
    assert streams.from_input({"zeros": 3}) == bytes(3)
    assert streams.from_input({"text_repeat": ["äb", 2]}) == "äbäb".encode()
    assert streams.from_input({"text": "ä"}) == "ä".encode()
    with pytest.raises(KeyError):
        streams.from_input({"tree": {}})
    with pytest.raises(ValueError, match="32 bytes"):
        streams.chacha8_rawseed("short", 1)
