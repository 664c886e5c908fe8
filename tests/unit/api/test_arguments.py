from contextlib import suppress
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.api.arguments import MAX_QUERY, Arguments, BadRequestError


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=20))
def test_arguments_come_back_in_order_and_unchanged(args: list[str]) -> None:
    query = urlencode([("arg", arg) for arg in args]).encode()
    assert Arguments.parse(query).args == tuple(args)


def test_bytes_that_are_not_utf8_are_kept() -> None:
    (arg,) = Arguments.parse(b"arg=%ff%20x").args
    assert arg.encode("utf-8", "surrogateescape") == b"\xff x"


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_with_our_error(query: bytes) -> None:
    with suppress(BadRequestError):
        Arguments.parse(query)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", True), ("1", True), ("t", True), ("TRUE", True), ("0", False), ("F", False), ("False", False)],
)
def test_a_flag_takes_the_words_of_gos_parse_bool(value: str, expected: bool) -> None:
    """An empty value is true, and case does not count: go-ipfs-cmds' option.go, converters[Bool]."""
    assert Arguments.parse(f"verbose={value}".encode()).flag("verbose", "v") is expected


def test_a_flag_goes_by_its_short_name_too() -> None:
    assert Arguments.parse(b"v=1").flag("verbose", "v")
    assert not Arguments.parse(b"").flag("verbose", "v")


def test_a_flag_that_is_neither_is_refused() -> None:
    with pytest.raises(BadRequestError, match="'verbose' is 'true' or 'false', not 'yes'"):
        Arguments.parse(b"verbose=yes").flag("verbose")


@pytest.mark.parametrize("value", ["0", "101", "-1", "x", "", "1.5", "٣", "9" * 5000])
def test_a_number_outside_its_bounds_is_refused(value: str) -> None:
    query = urlencode({"count": value}).encode()
    with pytest.raises(BadRequestError, match="'count' is a number from 1 to 100"):
        Arguments.parse(query).integer("count", "n", default=10, least=1, most=100)


def test_a_number_has_a_default() -> None:
    assert Arguments.parse(b"").integer("count", default=10, least=1, most=100) == 10
    assert Arguments.parse(b"n=3").integer("count", "n", default=10, least=1, most=100) == 3


def test_an_option_twice_is_refused_as_kubo_does() -> None:
    """go-ipfs-cmds' http/parse.go: "expected key %s to have only a single value"."""
    with pytest.raises(BadRequestError, match="option 'count' is given twice"):
        Arguments.parse(b"count=1&count=2")


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(BadRequestError, match="argument 'level' is required"):
        Arguments.parse(b"arg=one").check_count(("subsystem", "level"), 2)


def test_too_many_arguments_are_refused() -> None:
    with pytest.raises(BadRequestError, match="2 arguments given, the command takes 1 at most"):
        Arguments.parse(b"arg=1&arg=2").check_count((), 1)


def test_queries_are_bounded_in_bytes_and_fields() -> None:
    with pytest.raises(BadRequestError, match="more than"):
        Arguments.parse(b"arg=" + b"x" * MAX_QUERY)
    with pytest.raises(BadRequestError, match="too many fields"):
        Arguments.parse(b"&".join([b"arg=1"] * 1000))


def test_the_timeout_is_a_go_duration() -> None:
    assert Arguments.parse(b"timeout=1m0.5s").timeout == 60.5
    assert Arguments.parse(b"").timeout is None
