"""Texts of instants, against what Go's time package makes of them."""

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.node.naming.validity import NS, FarFutureError, ValidityError, format_validity, parse_validity

YEAR_2123 = int(datetime(2123, 8, 14, 12, 17, 3, tzinfo=UTC).timestamp())
LAST = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (b"2123-08-14T12:17:03.694052Z", YEAR_2123 * NS + 694_052_000),
        (b"2123-08-14T12:17:03Z", YEAR_2123 * NS),
        (b"1970-01-01T00:00:00.000000001Z", 1),
        (b"1970-01-01T00:00:00.1Z", NS // 10),
        (b"9999-12-31T23:59:59.999999999Z", LAST * NS + NS - 1),
    ],
)
def test_text_and_instant_are_two_forms_of_one_thing(text: bytes, ns: int) -> None:
    assert parse_validity(text) == ns
    assert format_validity(ns) == text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (b"2123-08-14T14:17:03+02:00", b"2123-08-14T12:17:03Z"),
        (b"2123-08-14T06:47:03-05:30", b"2123-08-14T12:17:03Z"),
        (b"2123-08-14T12:17:03.50Z", b"2123-08-14T12:17:03.5Z"),
        (b"2123-08-14T12:17:03.1234567899Z", b"2123-08-14T12:17:03.123456789Z"),
    ],
)
def test_other_writings_that_go_takes_are_taken(text: bytes, same: bytes) -> None:
    assert format_validity(parse_validity(text)) == same


def test_what_is_long_past_is_an_instant_too() -> None:
    assert parse_validity(b"0001-01-01T00:00:00Z") < 0
    assert parse_validity(b"1969-12-31T23:59:59.9Z") == -NS // 10


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"2123-08-14",
        b"2123-08-14 12:17:03Z",
        b"2123-08-14T12:17:03",
        b"2123-08-14T12:17:03z",
        b"2123-08-14T12:17:03.Z",
        b"2123-08-14T12:17Z",
        b"2123-02-30T12:17:03Z",
        b"2123-08-14T24:00:00Z",
        b"2123-08-14T12:17:60Z",
        b"0000-08-14T12:17:03Z",
        b"2123-08-14T12:17:03+24:00",
        b"2123-08-14T12:17:03+00:60",
        b"12123-08-14T12:17:03Z",
        b"2123-08-14T12:17:03Z\n",
        b"2123-08-14T12:17:03." + b"0" * 50 + b"Z",
        "２123-08-14T12:17:03Z".encode(),
    ],
)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(ValidityError):
        parse_validity(text)


@pytest.mark.parametrize("ns", [-1, (LAST + 1) * NS, 10**40])
def test_an_instant_that_no_text_says_is_refused(ns: int) -> None:
    with pytest.raises(FarFutureError):
        format_validity(ns)


@given(ns=st.integers(0, (LAST + 1) * NS - 1))
def test_every_instant_survives_its_text(ns: int) -> None:
    assert parse_validity(format_validity(ns)) == ns


@given(text=st.binary(max_size=40) | st.from_regex(rb"[-0-9TZ:.+]{10,35}", fullmatch=True))
def test_garbage_raises_nothing_but_our_error(text: bytes) -> None:
    with suppress(ValidityError):
        format_validity(max(0, parse_validity(text)))
