"""What a commit says: people, times and messages, however odd. tests/e2e/test_git_reading.py asks git."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.git.commit_text import CommitText, Ident, commit_time, read_commit_text

HEAD = b"tree " + b"1" * 40 + b"\nparent " + b"2" * 40 + b"\n"
PEOPLE = b"author A U Thor <a@example.com> 1 +0130\ncommitter C <c@example.com> 1000000000 -0800\n"


def read(*lines: bytes, message: bytes = b"message\n") -> CommitText:
    return read_commit_text(HEAD + b"\n".join(lines) + b"\n\n" + message)


def test_people_dates_and_message_are_read() -> None:
    text = read_commit_text(HEAD + PEOPLE + b"\nsubject\ngoes on\n\nbody\n")
    assert text.author == Ident("A U Thor", "a@example.com", 1, 130)
    assert text.committer == Ident("C", "c@example.com", 1_000_000_000, -800)
    assert text.message == "subject\ngoes on\n\nbody\n"
    assert text.subject == "subject goes on"


@pytest.mark.parametrize(
    ("line", "ident"),
    [
        (b"A <a> 12 +0000", Ident("A", "a", 12, 0)),
        (b"<a> 12 +0000", Ident("", "a", 12, 0)),
        (b"  A  <> 12 -0530", Ident("A", "", 12, -530)),
        (b"A <a>", Ident("A", "a", 0, 0)),
        (b"A <a> 12", Ident("A", "a", 0, 0)),
        (b"A <a> x +0000", Ident("A", "a", 0, 0)),
        (b"A <a> -12 +0000", Ident("A", "a", 0, 0)),
        (b"A <a>b> 12 +0100", Ident("A", "a", 12, 100)),
        (b"A <a> 9223372036854775807 +0000", Ident("A", "a", (1 << 63) - 1, 0)),
        (b"A <a> 9223372036854775808 +0100", Ident("A", "a", 0, 0)),
        (b"A <a> " + b"9" * 5000 + b" +0100", Ident("A", "a", 0, 0)),
        (b"A <a> 12 +" + b"9" * 5000, Ident("A", "a", 12, 0)),
        (b"A a@example.com 12 +0000", None),
        (b"A <a 12 +0000", None),
    ],
)
def test_an_odd_ident_is_read_as_git_reads_it(line: bytes, ident: Ident | None) -> None:
    assert read(b"author " + line).author == ident


@pytest.mark.parametrize(
    ("encoding", "written", "shown"),
    [
        (b"ISO-8859-1", "Zürich".encode("latin-1"), "Zürich"),
        (b"UTF-8", "Zürich".encode("latin-1"), "Z�rich"),
        (b"EUC-JP", "日本".encode("euc-jp"), "日本"),
        (b"no-such-charset", "Zürich".encode(), "Zürich"),
        (b"\xff\0", b"plain", "plain"),
        (b"rot13", b"plain", "plain"),
        (b"zlib", b"plain", "plain"),
        (b"unicode_escape", rb"a\x1b\8", r"a\x1b\8"),
        (b"punycode", b"a-b", "a-b"),
        (b"idna", b"xn--a", "xn--a"),
        (b"../../os", b"plain", "plain"),
    ],
)
def test_an_encoding_is_heeded_if_it_is_a_charset(encoding: bytes, written: bytes, shown: str) -> None:
    text = read(b"author " + written + b" <a> 1 +0000", b"encoding " + encoding, message=written)
    assert text.message == shown
    assert text.author == Ident(shown, "a", 1, 0)


def test_headers_of_a_message_are_no_headers() -> None:
    text = read_commit_text(HEAD + b"\nauthor A <a> 1 +0000\nencoding EUC-JP\n")
    assert text == CommitText(None, None, "author A <a> 1 +0000\nencoding EUC-JP\n")


@pytest.mark.parametrize(
    ("rest", "seconds"),
    [
        (PEOPLE, 1_000_000_000),
        (PEOPLE + b"gpgsig x\n y\n\nmessage", 1_000_000_000),
        (b"author A <a> 1 +0000\ncommitter <c>d> 7", 7),
        (b"author A <a> 1 +0000\ncommitter <c> " + b"9" * 30 + b" +0000\n", (1 << 63) - 1),
        (b"author A <a> 1 +0000\nx\ncommitter C <c> 7 +0000\n", 0),
        (b"x\n" + PEOPLE, 0),
        (b"author A <a> 1 +0000\ncommitter C 7 +0000\n", 0),
        (b"author A <a> 1 +0000\n", 0),
        (b"", 0),
    ],
)
def test_a_history_is_sorted_by_the_committers_time(rest: bytes, seconds: int) -> None:
    assert commit_time(HEAD + rest) == seconds


@given(st.binary(max_size=300), st.sampled_from([b"", HEAD, HEAD + PEOPLE, HEAD + b"encoding "]))
def test_any_bytes_give_some_text(rest: bytes, start: bytes) -> None:
    text = read_commit_text(start + rest)
    assert "\n" not in text.subject
    assert commit_time(start + rest) >= 0
