from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.api.duration import DurationError, format_duration, parse_duration

# Go's own examples: https://pkg.go.dev/time (Duration.String, ParseDuration) and the tables in src/time/time_test.go.
GO_FORMATS = [
    ("0s", 0),
    ("1ns", 1),
    ("1.1µs", 1100),
    ("2.2ms", 2_200_000),
    ("3.3s", 3_300_000_000),
    ("4m5s", 245_000_000_000),
    ("4m5.001s", 245_001_000_000),
    ("5h6m7.001s", 18_367_001_000_000),
    ("8m0.000000001s", 480_000_000_001),
    ("2562047h47m16.854775807s", 2**63 - 1),
]
GO_PARSES = [
    ("0", 0),
    ("5s", 5 * 10**9),
    ("+5s", 5 * 10**9),
    ("5.0s", 5 * 10**9),
    ("5.s", 5 * 10**9),
    (".5s", 5 * 10**8),
    ("1.004s", 1_004_000_000),
    ("100.00100s", 100_001_000_000),
    ("12us", 12_000),
    ("12μs", 12_000),
    ("3h30m", 12_600 * 10**9),
    ("10.5s4m", 250_500_000_000),
    ("1h2m3s4ms5us6ns", 3_723_004_005_006),
    ("0.3333333333333333333h", 20 * 60 * 10**9),
    ("9223372036854775807ns", 2**63 - 1),
]
GO_REFUSES = ["", "3", "s", ".", ".s", "+", "1s2", "1e3s", "5 s", "-5s", "9223372036854775808ns", "3000000h", "١s"]


@pytest.mark.parametrize(("text", "nanoseconds"), GO_FORMATS)
def test_durations_are_written_as_go_writes_them(text: str, nanoseconds: int) -> None:
    assert format_duration(nanoseconds) == text


@pytest.mark.parametrize(("text", "nanoseconds"), GO_FORMATS + GO_PARSES)
def test_durations_are_read_as_go_reads_them(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", [*GO_REFUSES, "1" * 1000 + "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(DurationError, match="invalid duration"):
        parse_duration(text)


@given(st.integers(0, 2**63 - 1))
def test_what_is_written_reads_the_same(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@given(st.text("0123456789.nuµmsh+-", max_size=12))
def test_text_is_a_duration_or_refused_with_our_error(text: str) -> None:
    with suppress(DurationError):
        assert parse_duration(text) >= 0
