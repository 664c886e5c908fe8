import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import UsageError
from ipvcs.multiformats import multibase
from ipvcs.multiformats.cid import Cid, CidError
from ipvcs.multiformats.cid_format import CidTemplateError, base_of, format_cid
from tests.strategies import cids

KUBO = json.loads((Path(__file__).parents[2] / "vectors" / "cid" / "kubo_t0290.json").read_text())["kubo_t0290"]
V0 = Cid.parse(KUBO["same_digest"]["v0"])
RAW = Cid.parse(KUBO["same_digest"]["raw"])


# The texts are what kubo's test/sharness/t0290-cid.sh expects or follow from its vectors.
@pytest.mark.parametrize(
    ("template", "base", "expected"),
    [
        ("%s", "", str(RAW)),
        ("%S", "", str(RAW)[1:]),
        ("%s", "base58btc", RAW.encode("base58btc")),
        ("%b %B %%", "base36", "base36 k %"),
        ("%v %V", "", "cidv1 1"),
        ("%c %C", "", "raw 85"),
        ("%h %H %L", "", "sha2-256 18 32"),
        ("%P", "", "cidv1-raw-sha2-256-32"),
        ("%m", "base58btc", "z" + str(V0)),
        ("%M", "base58btc", str(V0)),
        ("%d|%D", "base16", f"f{RAW.digest.hex()}|{RAW.digest.hex()}"),
        ("plain", "", "plain"),
        ("", "", ""),
        ("%B", "base256emoji", "🚀"),
    ],
)
def test_templates_are_filled_in(template: str, base: str, expected: str) -> None:
    assert format_cid(RAW, template, base) == expected


def test_v0_is_written_without_a_multibase_prefix() -> None:
    assert format_cid(V0, "%s %S %b %P") == f"{V0} {V0} base58btc cidv0-dag-pb-sha2-256-32"
    with pytest.raises(CidError, match="base58btc only"):
        format_cid(V0, "%s", "base32")


def test_base256emoji_as_kubo_prints_it() -> None:
    text = "🚀🪐⭐💻😅❓💎🌈🌸🌚💰💍🌒😵🐶💁🤐🌎👼🙃🙅☺🌚😞🤤⭐🚀😃✈🌕😚🍻💜🐷⚽✌😊"
    cid = Cid.parse("bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi")
    assert format_cid(cid, "%s", "base256emoji") == text
    assert Cid.parse(text) == cid


def test_numbers_without_a_name_are_written_as_go_writes_them() -> None:
    cid = Cid.make(b"\x81\x80\xc0\x01\x00", 0x300002)
    assert format_cid(cid, "%c %h %P") == "Code(3145730) hash?3145729 cidv1-Code(3145730)-hash?3145729-0"


@pytest.mark.parametrize(("template", "message"), [("%", "lone '%'"), ("%s%", "lone '%'"), ("%x", "'%x' is not known")])
def test_what_a_template_cannot_ask_for_is_an_error_of_use(template: str, message: str) -> None:
    with pytest.raises(CidTemplateError, match=message) as caught:
        format_cid(RAW, template)
    assert isinstance(caught.value, UsageError)
    assert "% b B" in str(caught.value.hint)


def test_an_unknown_base_is_refused() -> None:
    with pytest.raises(multibase.UnknownBaseError):
        format_cid(RAW, "%m", "base99")


@given(cids(), st.sampled_from([name for _code, name in multibase.BASES]))
def test_the_base_of_a_text_is_found_again(cid: Cid, base: str) -> None:
    assert base_of(cid.to_v1().encode(base)) == base
    assert base_of(str(cid)) == ("base32" if cid.version else "base58btc")
    assert format_cid(cid.to_v1(), "%s", base) == cid.to_v1().encode(base)


@given(cids(), st.text(alphabet="%bBvVcChHLmMdDsSP x", max_size=12))
def test_any_template_is_filled_in_or_refused(cid: Cid, template: str) -> None:
    try:
        text = format_cid(cid, template)
    except CidTemplateError:
        return
    assert "%" in text or template.count("%%") == 0
