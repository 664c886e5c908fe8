"""Names of refs: exactly those that git takes."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.git_bridge.refname import MAX_REFNAME, RefNameError, parse_refname

GOOD = [
    b"refs/heads/main",
    b"refs/heads/a/b/c",
    b"refs/tags/v1.0",
    b"refs/notes/commits",
    b"refs/stash",
    b"refs/heads/\xff\xfe",
    b"refs/heads/\xc3\xa9",
    b"refs/heads/a@b",
    b"refs/heads/@",
    b"refs/heads/a.b",
    b"refs/heads/-",
    b"refs/heads/{",
    b"refs/heads/a{",
    b"refs/heads/HEAD",
    b"refs/heads/a.lock.b",
    b"refs/heads/!",
    b"refs/heads/$(x)",
    b"refs/heads/'",
    b'refs/heads/"',
    b"refs/heads/a@",
]
BAD = [
    b"",
    b"refs",
    b"refs/",
    b"refs/heads/",
    b"refs/heads//a",
    b"refs/heads/a/",
    b"refs/heads/.a",
    b"refs/.a/b",
    b"refs/heads/a.",
    b"refs/heads/a..b",
    b"refs/heads/a.lock",
    b"refs/heads/a.lock/b",
    b"refs/heads/a b",
    b"refs/heads/a\tb",
    b"refs/heads/a\x7f",
    b"refs/heads/a~b",
    b"refs/heads/a^b",
    b"refs/heads/a:b",
    b"refs/heads/a?b",
    b"refs/heads/a*",
    b"refs/heads/a[b",
    b"refs/heads/a\\b",
    b"refs/heads/a@{b",
    b"refs/heads/@{",
    b"refs/heads/..",
    b"refs/heads/.",
    b"refs/./a",
    b"refs/../a",
    b"refs/heads/a\nb",
    b"refs/heads/.lock",
]


def git_takes(name: bytes) -> bool:
    return subprocess.run(["git", "check-ref-format", name], check=False).returncode == 0


def we_take(name: bytes) -> bool:
    try:
        return parse_refname(name) == name
    except RefNameError:
        return False


@pytest.mark.parametrize("name", GOOD)
def test_what_git_takes_is_taken(name: bytes) -> None:
    assert git_takes(name)
    assert we_take(name)


@pytest.mark.parametrize("name", BAD)
def test_what_git_refuses_is_refused(name: bytes) -> None:
    # Git takes one-level names for other commands; a ref of a repository is below refs/.
    assert not git_takes(name) or name == b"refs"
    assert not we_take(name)


@given(
    st.lists(st.sampled_from([b"/", b".", b"@", b"{", b"a", b"lock", b"\x01", b"\xff", b"~", b"-"]), max_size=6).map(
        b"".join
    )
)
def test_git_and_we_agree_on_anything(tail: bytes) -> None:
    name = b"refs/heads/" + tail
    assert we_take(name) == git_takes(name)


@pytest.mark.parametrize("name", [b"HEAD", b"heads/main", b"/refs/heads/main", b"../refs/heads/main"])
def test_a_name_is_full(name: bytes) -> None:
    assert not we_take(name)


def test_a_name_fits_into_a_path() -> None:
    assert we_take(b"refs/heads/" + b"a" * (MAX_REFNAME - 11))
    assert not we_take(b"refs/heads/" + b"a" * (MAX_REFNAME - 10))
