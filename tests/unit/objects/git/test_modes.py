import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.git.modes import KIND_OF_TYPE, ModeError, NodeKind, entry_kind, parse_mode
from ipvcs.objects.git.payload import GitType


@pytest.mark.parametrize(
    ("digits", "kind"),
    [
        (b"100644", NodeKind.REGULAR),
        (b"100755", NodeKind.EXECUTABLE),
        (b"100600", NodeKind.REGULAR),
        (b"100664", NodeKind.REGULAR),
        (b"100100", NodeKind.EXECUTABLE),
        (b"100011", NodeKind.REGULAR),
        (b"000100644", NodeKind.REGULAR),
        (b"120000", NodeKind.SYMLINK),
        (b"120777", NodeKind.SYMLINK),
        (b"40000", NodeKind.DIRECTORY),
        (b"040000", NodeKind.DIRECTORY),
        (b"40755", NodeKind.DIRECTORY),
        (b"160000", None),
        (b"170000", None),
        (b"20000", None),
        (b"0", None),
    ],
)
def test_kind_is_what_git_reads_out_of_the_mode(digits: bytes, kind: NodeKind | None) -> None:
    assert entry_kind(parse_mode(digits)) is kind


@pytest.mark.parametrize("digits", [b"", b"8", b"10064x", b"-1", b"+1", b"1_0", b"0o17", b"\xb2"])
def test_a_mode_that_is_not_octal_is_refused(digits: bytes) -> None:
    with pytest.raises(ModeError, match="malformed mode"):
        parse_mode(digits)


@given(st.text("01234567", min_size=1, max_size=60))
def test_a_mode_wraps_at_32_bits_as_in_git(digits: str) -> None:
    assert parse_mode(digits.encode()) == int(digits, 8) % 2**32


def test_a_mode_of_a_megabyte_is_read_at_once() -> None:
    assert parse_mode(b"7" * 1_000_000 + b"00000100644") == 0o100644


def test_every_git_type_has_a_kind_of_that_type() -> None:
    assert {git_type: kind.git_type for git_type, kind in KIND_OF_TYPE.items()} == {each: each for each in GitType}


def test_the_words_in_memo_keys_never_change() -> None:
    assert [str(kind) for kind in NodeKind] == [
        "regular", "executable", "symlink", "directory", "commit", "tag", "verbatim",
    ]  # fmt: skip
