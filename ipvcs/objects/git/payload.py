"""A Git object's payload: the exact bytes that Git hashes, `<type> <size><NUL><body>`.

The payload is what the mapping carries, never anything re-serialised from it: `hash(payload) == oid` proves an object,
and whatever oddity its maker put in survives.

Spec: DESIGN §3.1 "payload"; gitformat-loose(5)
"""

from enum import StrEnum
from typing import Final

from ipvcs.errors import DecodeError

MAX_HEADER: Final = 28
"""Bytes of the longest header: `commit `, the 20 digits of 2**64 - 1, NUL."""


class GitType(StrEnum):
    """The four types of Git object, by the word in their header."""

    BLOB = "blob"
    TREE = "tree"
    COMMIT = "commit"
    TAG = "tag"


class PayloadError(DecodeError):
    """Bytes do not start with a Git object header, or the body is not as long as it says."""


def encode_header(git_type: GitType, size: int) -> bytes:
    """Return the header of an object whose body has `size` bytes."""
    return b"%s %d\0" % (git_type.encode(), size)


def make_payload(git_type: GitType, body: bytes) -> bytes:
    """Return the payload of an object from its body, as `git cat-file <type>` prints it."""
    return encode_header(git_type, len(body)) + body


def decode_header(start: bytes) -> tuple[GitType, int, int]:
    """Read the header at the start of `start`, which holds at least the first `MAX_HEADER` bytes or the whole payload.

    Returns:
        (type, size, end): `size` is the body's length as the header claims it; the body starts at byte `end`.

    Raises:
        PayloadError: an unknown type, a size that is not plain decimal (no sign, no leading zero), or no NUL.
    """
    end = start.find(b"\0", 0, MAX_HEADER)
    if end < 0:
        raise PayloadError("payload has no Git object header")
    word, _space, digits = start[:end].partition(b" ")
    git_type = _TYPES.get(word)
    if git_type is None:
        raise PayloadError(f"unknown Git object type '{word.decode(errors='backslashreplace')}'")
    if not digits.isdigit() or (digits[:1] == b"0" and len(digits) > 1):
        raise PayloadError(f"bad size '{digits.decode(errors='backslashreplace')}' in a Git object header")
    return git_type, int(digits), end + 1


def split_payload(payload: bytes) -> tuple[GitType, bytes]:
    """Return (type, body) of a whole payload.

    Raises:
        PayloadError: no well-formed header, or a size in it that is not the body's.
    """
    git_type, size, end = decode_header(payload)
    if len(payload) - end != size:
        raise PayloadError(f"Git object header says {size} bytes, but {len(payload) - end} follow")
    return git_type, payload[end:]


_TYPES: Final[dict[bytes, GitType]] = {git_type.encode(): git_type for git_type in GitType}
