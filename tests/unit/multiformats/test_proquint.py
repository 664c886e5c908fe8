import json
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats import proquint

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "proquint" / "vectors.json").read_text())


@pytest.mark.parametrize(("address", "quints"), VECTORS["ipv4"].items())
def test_the_addresses_of_the_paper_hold_both_ways(address: str, quints: str) -> None:
    data = IPv4Address(address).packed
    assert proquint.encode(data) == quints
    assert proquint.decode(quints) == data


@given(st.binary(max_size=40))
def test_decode_undoes_encode_at_any_length(data: bytes) -> None:
    assert proquint.decode(proquint.encode(data)) == data


@pytest.mark.parametrize(
    "text",
    ["lusa", "lusabb", "lusab-", "-lusab", "lusabbabad", "lusab-bab-babad", "eusab", "lesab", "LUSAB", "bad", "é"],
)
def test_what_is_no_proquint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="proquint"):
        proquint.decode(text)
