import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats import codecs, multiaddr_protocols, multihash

VECTORS = Path(__file__).parents[2] / "vectors"
KUBO_CODECS = json.loads((VECTORS / "cid" / "kubo_t0290.json").read_text())["kubo_t0290"]["codecs"]
TABLE = [
    {key: value.strip() for key, value in row.items()}
    for row in csv.DictReader((VECTORS / "multicodec" / "table.csv").read_text().splitlines(), skipinitialspace=True)
]
REGISTERED = {row["name"]: int(row["code"], 16) for row in TABLE}


def test_ipld_codecs_are_those_that_kubo_lists_in_its_order() -> None:
    assert [(code, name) for name, code in codecs.IPLD_CODES.items()] == [
        (int(code), name) for code, name in KUBO_CODECS
    ]


def test_every_codec_is_registered_under_its_number() -> None:
    assert {name: REGISTERED[name] for name in codecs.CODES} == codecs.CODES


def test_every_hash_function_is_registered_under_its_number() -> None:
    known = {name: code for code in range(0xC000) if not (name := multihash.name_of(code)).startswith("0x")}
    assert len(known) > len(multihash.NAMES)
    assert {name: REGISTERED[name] for name in known} == known


def test_every_multiaddr_protocol_is_registered_under_its_number() -> None:
    known = {protocol.name: protocol.code for protocol in multiaddr_protocols.PROTOCOLS}
    known["memorytransport"] = known.pop("memory")  # its name in the table
    assert {name: REGISTERED[name] for name in known} == known


@pytest.mark.parametrize("name", codecs.CODES)
def test_names_and_numbers_are_each_others_inverse(name: str) -> None:
    assert codecs.name_of(codecs.code_of(name)) == name


@given(st.integers(0, codecs.MAX_CODE))
def test_numbers_are_taken_as_they_are(code: int) -> None:
    assert codecs.code_of(hex(code)) == codecs.code_of(str(code)) == code


@pytest.mark.parametrize(
    "name", ["", "dag-xy", "0x", "-1", "+1", " 1", "1_0", "0x-1", "\u0663", str(1 << 63), "9" * 5000]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(codecs.UnknownCodecError, match="unknown codec"):
        codecs.code_of(name)


def test_a_number_without_a_name_is_shown_in_hex() -> None:
    assert codecs.name_of(0x300001) == "0x300001"
