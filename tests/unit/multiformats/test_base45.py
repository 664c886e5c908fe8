import pytest

from ipvcs.multiformats import base45

# RFC 9285, sections 4.3 and 4.4
EXAMPLES = [(b"AB", "BB8"), (b"Hello!!", "%69 VD92EX0"), (b"base-45", "UJCLQE7W581"), (b"ietf!", "QED8WEX0")]


@pytest.mark.parametrize(("data", "text"), EXAMPLES)
def test_the_examples_of_the_rfc_hold_both_ways(data: bytes, text: str) -> None:
    assert base45.encode(data) == text
    assert base45.decode(text) == data


@pytest.mark.parametrize("text", ["A", "GGW", ":::", "5R9:", "::", "ab1", "éé"])
def test_what_no_data_encodes_to_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"alphabet|over|long"):
        base45.decode(text)
