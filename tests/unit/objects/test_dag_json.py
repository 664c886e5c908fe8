import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_json
from ipvcs.objects.dag_json import DagJsonError, TruncatedDagJsonError
from ipvcs.objects.data_model import MAX_DEPTH, EncodeError, Value
from tests.unit.objects import codec_fixtures
from tests.unit.objects.values import texts, values

CID = Cid.parse("bafkqaaa")


@pytest.mark.parametrize("name", codec_fixtures.load())
def test_a_fixture_is_what_it_encodes_to(name: str) -> None:
    block = codec_fixtures.load()[name]["dag-json"][1]
    assert dag_json.encode(dag_json.decode(block)) == block


def test_duplicate_keys_of_the_negative_fixture_are_refused() -> None:
    for case in codec_fixtures.load_negative("dag-json/decode/duplicate-keys.json"):
        with pytest.raises(DagJsonError, match="duplicate map key 'foo'"):
            dag_json.decode(bytes.fromhex(case["hex"]))


@given(values())
def test_a_value_comes_back_and_its_bytes_too(value: Value) -> None:
    try:
        encoded = dag_json.encode(value)
    except EncodeError as exc:
        assume("reserved" not in str(exc))
        raise
    decoded = dag_json.decode(encoded)
    assert decoded == value
    assert dag_json.encode(decoded) == encoded


@given(values(), st.floats(0, 1, exclude_max=True))
def test_any_cut_is_refused_or_a_shorter_number(value: Value, part: float) -> None:
    try:
        encoded = dag_json.encode(value)
    except EncodeError:
        assume(False)
    with suppress(DagJsonError):
        assert isinstance(dag_json.decode(encoded[: int(part * len(encoded))]), (int, float))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_comes_back_as_the_same_float(number: float) -> None:
    encoded = dag_json.encode(number)
    decoded = dag_json.decode(encoded)
    assert isinstance(decoded, float)
    assert decoded == number
    assert math.copysign(1, decoded) == math.copysign(1, number)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e20, "100000000000000000000.0"),
        (1.2345678901234567e16, "12345678901234568.0"),
        (123456789012345680000.0, "123456789012345680000.0"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"),
        (-1.25e-5, "-0.0000125"),
        (1e-7, "1e-7"),
        (5e-324, "5e-324"),
    ],
)
def test_a_float_is_printed_as_ecmascript_prints_it_with_its_point_kept(number: float, text: str) -> None:
    assert dag_json.encode(number) == text.encode()


def test_strings_are_escaped_as_kubo_escapes_them() -> None:
    assert dag_json.encode('"\\/\b\f\n\r\t\x00\x1f\x7f<\u2028\u2029é水𐅑') == (
        '"\\"\\\\/\\u0008\\u000c\\n\\r\\t\\u0000\\u001f\x7f<\\u2028\\u2029é水𐅑"'.encode()
    )


@given(texts())
def test_escapes_and_white_space_are_read(text: str) -> None:
    escaped = "".join(f"\\u{unit:04x}" for unit in memoryview(text.encode("utf-16-le")).cast("H"))
    assert dag_json.decode(f' \t\r\n[ "{escaped}" , {{ "a" : 1 }} ]\n'.encode()) == [text, {"a": 1}]


def test_keys_are_sorted_by_their_bytes() -> None:
    assert (
        dag_json.encode({"b": 1, "aa": 2, "𐅑": 3, "\uffff": 4, "": 5})
        == '{"":5,"aa":2,"b":1,"\uffff":4,"𐅑":3}'.encode()
    )


def test_bytes_and_links_have_their_forms() -> None:
    form = b'{"b":{"/":{"bytes":"+/8"}},"l":{"/":"bafkqaaa"}}'
    assert dag_json.encode({"b": b"\xfb\xff", "l": CID}) == form
    assert dag_json.decode(form) == {"b": b"\xfb\xff", "l": CID}
    assert dag_json.decode(b'{"/":{"bytes":"+/8="}}') == b"\xfb\xff"
    assert dag_json.decode(b'{"/":{"bytes":""}}') == b""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"/":true,"bar":"baz"}', {"/": True, "bar": "baz"}),
        ('{"/":1}', {"/": 1}),
        ('{"/":{"bytes":true},"bar":"baz"}', {"/": {"bytes": True}, "bar": "baz"}),
        ('{"/":{"abar":"baz","bytes":"foo"}}', {"/": {"abar": "baz", "bytes": "foo"}}),
        ('{"!bar":"baz","/":"foo"}', {"!bar": "baz", "/": "foo"}),
        ('{"!bar":"baz","/":{"bytes":"foo"}}', {"!bar": "baz", "/": {"bytes": "foo"}}),
        ('{"/":{"/":"bafkqaaa"}}', {"/": CID}),
        ('{"/":{"/":{"bytes":"AA"}}}', {"/": b"\0"}),
    ],
)
def test_maps_outside_the_reserved_namespace_stay_maps(text: str, value: Value) -> None:
    assert dag_json.decode(text.encode()) == value
    assert dag_json.encode(value) == text.encode()


@pytest.mark.parametrize(
    "text",
    [
        '{"/":"foo"}',
        '{"/":""}',
        '{"/":"bafkqaaa","bar":"baz"}',
        '{"/":"foo","bar":"baz"}',
        '{"bar":"baz","/":"foo"}',
        '{"/":"foo","!bar":"baz"}',
        '{"/":{"bytes":"foo","bar":"baz"}}',
        '{"/":{"bytes":"foo","zar":"baz"}}',
        '{"/":{"zar":"baz","bytes":"foo"}}',
        '{"/":{"bytes":"foo"},"bar":"baz"}',
        '{"/":{"bytes":"*"}}',
        '{"/":{"bytes":"AAAAA"}}',
        '{"/":{"bytes":"é"}}',
    ],
)
def test_other_maps_in_the_reserved_namespace_are_refused(text: str) -> None:
    with pytest.raises(DagJsonError):
        dag_json.decode(text.encode())


@pytest.mark.parametrize(
    "value", [{"/": "foo"}, {"/": "foo", "a": 1}, {"/": {"bytes": "foo"}}, {"/": {"bytes": "foo", "c": 1}, "a": 1}]
)
def test_a_map_that_would_read_back_as_something_else_does_not_encode(value: Value) -> None:
    with pytest.raises(EncodeError, match="map key '/' is reserved"):
        dag_json.encode(value)


@pytest.mark.parametrize(
    "text",
    ["", " ", "[", "[1", "[1,", '{"a"', '{"a":', '{"a":1', '{"a":1,', '"', '"abc', '{"a', "[[", "[ "],
)
def test_text_that_ends_too_early_is_truncated(text: str) -> None:
    with pytest.raises(TruncatedDagJsonError):
        dag_json.decode(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "1 2", "[1]]", "{}x", "nul", "NaN", "Infinity", "-", "+1", "01", "1.", ".5", "1e", "0x1", "[1,]", "[,1]",
        "[1 2]", '{"a":1,}', "{1:2}", '{"a" 1}', "{a:1}", "'a'", '"\\x"', '"\\u12"', '"\n"', '"\\ud800"',
        '"\\udc00\\ud800"', "[1}", '{"a":1]', "1e999", "-1e999", "18446744073709551616", "-18446744073709551617",
        "9" * 5000, "\ufeff1", "//\n1",
    ],
)  # fmt: skip
def test_what_is_not_dag_json_is_refused(text: str) -> None:
    with pytest.raises(DagJsonError):
        dag_json.decode(text.encode())


def test_bytes_that_are_not_utf8_are_refused_where_they_are() -> None:
    with pytest.raises(DagJsonError, match="at character 2: not UTF-8"):
        dag_json.decode(b'"a\xff"')


def test_nesting_is_bounded_in_both_directions() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert dag_json.encode(dag_json.decode(deepest)) == deepest
    with pytest.raises(EncodeError, match="nested deeper than 1024"):
        dag_json.encode([dag_json.decode(deepest)])
    for head in (b"[", b'{"a":'):
        with pytest.raises(DagJsonError, match="nested deeper than 1024"):
            dag_json.decode(head * 100_000)


@pytest.mark.parametrize(
    "value", [1 << 64, 10**50, math.nan, -math.inf, "\ud800", {1: 2}, {"/": {1: 2, "bytes": "a"}}, {1}]
)
def test_what_the_data_model_lacks_does_not_encode(value: Any) -> None:
    with pytest.raises(EncodeError, match=r"^cannot encode as dag-json: "):
        dag_json.encode(value)


def test_strings_that_are_not_utf8_can_be_shown() -> None:
    name = b"caf\xe9 \xc3\xa9".decode("utf-8", "surrogateescape")
    with pytest.raises(EncodeError, match="not Unicode"):
        dag_json.encode({"Name": name})
    assert dag_json.encode({"Name": name}, errors="replace") == '{"Name":"caf\ufffd é"}'.encode()
