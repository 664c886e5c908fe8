"""What a tree entry's mode says its object is, by Git's own reading.

Git reads any run of octal digits, pads and oversized values included, and then looks at the file type bits alone. So
`100664` is a regular file, `040000` a directory, `120777` a symlink, and everything that is none of these (`160000`,
but `0` and `170000` too) a gitlink: the id of a commit in another repository, which is not followed.

Spec: DESIGN §3.1 "Entry kind"; `get_mode` and `canon_mode` in git's tree-walk.c and cache.h
"""

from enum import StrEnum
from functools import lru_cache
from typing import Final

from ipvcs.errors import DecodeError
from ipvcs.objects.git.payload import GitType

_TYPE_MASK: Final = 0o170000  # S_IFMT
_REGULAR: Final = 0o100000  # S_IFREG
_SYMLINK: Final = 0o120000  # S_IFLNK
_DIRECTORY: Final = 0o040000  # S_IFDIR
_OWNER_EXECUTES: Final = 0o100
_UINT32: Final = (1 << 32) - 1  # git accumulates in an unsigned int, which wraps
_DIGITS_THAT_COUNT: Final = 11  # octal digits that reach into 32 bits; bounds int() on a mode of megabytes


class ModeError(DecodeError):
    """A mode is empty or has a byte that is no octal digit."""


class NodeKind(StrEnum):
    """What a node of the mapping stands for. The values are part of the memo key and never change.

    A blob has three, since its CID depends on the mode of the entry that leads to it. VERBATIM is an object of another
    type than what refers to it says: it is carried as a plain file of its payload and not followed, as in git.
    """

    REGULAR = "regular"
    EXECUTABLE = "executable"
    SYMLINK = "symlink"
    DIRECTORY = "directory"
    COMMIT = "commit"
    TAG = "tag"
    VERBATIM = "verbatim"

    @property
    def git_type(self) -> GitType | None:
        """The type of the Git object; None for VERBATIM, which may be any."""
        return _GIT_TYPES.get(self)


_GIT_TYPES: Final = {
    NodeKind.REGULAR: GitType.BLOB,
    NodeKind.EXECUTABLE: GitType.BLOB,
    NodeKind.SYMLINK: GitType.BLOB,
    NodeKind.DIRECTORY: GitType.TREE,
    NodeKind.COMMIT: GitType.COMMIT,
    NodeKind.TAG: GitType.TAG,
}

KIND_OF_TYPE: Final = {
    GitType.BLOB: NodeKind.REGULAR,
    GitType.TREE: NodeKind.DIRECTORY,
    GitType.COMMIT: NodeKind.COMMIT,
    GitType.TAG: NodeKind.TAG,
}
"""The kind of a target that is named with its type and no mode: by a tag, a commit or a ref."""


def parse_mode(digits: bytes) -> int:
    """Return the value of an entry's mode as git computes it: octal, modulo 2**32.

    Raises:
        ModeError: empty, or not octal.
    """
    if not digits or digits.strip(b"01234567"):
        raise ModeError(f"malformed mode '{digits[:20].decode(errors='backslashreplace')}' in a tree entry")
    return int(digits[-_DIGITS_THAT_COUNT:], 8) & _UINT32


@lru_cache(maxsize=256)
def entry_kind(mode: int) -> NodeKind | None:
    """Return what an entry of `mode` leads to; None is a gitlink, which leads out of the repository."""
    file_type = mode & _TYPE_MASK
    if file_type == _REGULAR:
        return NodeKind.EXECUTABLE if mode & _OWNER_EXECUTES else NodeKind.REGULAR
    if file_type == _DIRECTORY:
        return NodeKind.DIRECTORY
    return NodeKind.SYMLINK if file_type == _SYMLINK else None
