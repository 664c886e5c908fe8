"""Names of refs: any bytes that Git takes, and no others, since what a remote lists becomes a file's path here.

Spec: git-check-ref-format(1), rules 1 to 10
"""

import re
from typing import Final, NewType

from ipvcs.errors import DecodeError

RefName = NewType("RefName", bytes)
"""A full name, such as `refs/heads/main`."""
MAX_REFNAME: Final = 4000
"""Bytes: the name and `.lock` behind a repository's path have to fit into PATH_MAX."""
BRANCHES: Final = b"refs/heads/"
TAGS: Final = b"refs/tags/"
_BAD: Final = re.compile(rb"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|(^|/)\.|\.lock(/|$)|/$|\.$")


class RefNameError(DecodeError):
    """Bytes are no ref's full name."""


def parse_refname(name: bytes) -> RefName:
    """Return `name`, checked.

    Raises:
        RefNameError: it does not begin with `refs/`, or Git would refuse it, or it is longer than `MAX_REFNAME`.
    """
    if len(name) > MAX_REFNAME or not name.startswith(b"refs/") or _BAD.search(name):
        raise RefNameError(f"'{show(name[:200])}' is not the full name of a ref")
    return RefName(name)


def show(name: bytes) -> str:
    """Return a name for people: bytes that are not UTF-8 are escaped."""
    return name.decode(errors="backslashreplace")
