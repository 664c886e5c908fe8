"""Git object ids: which hash function a repository uses, and the ids it gives.

Spec: gitglossary(7), "object name"; https://git-scm.com/docs/hash-function-transition
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from ipvcs.errors import DecodeError, IntegrityError

if TYPE_CHECKING:
    from hashlib import _Hash


class ObjectIdError(DecodeError):
    """Text or bytes are not an object id."""


class ObjectFormat(StrEnum):
    """A repository's `extensions.objectFormat`. Known from the repository, never guessed from an id's length alone."""

    SHA1 = "sha1"
    SHA256 = "sha256"

    @property
    def size(self) -> int:
        """Length of a raw id in bytes; its hex is twice as long."""
        return _SIZES[self]

    def hasher(self) -> "_Hash":
        """Return a new hash object of this format's function."""
        return hashlib.sha1() if self is ObjectFormat.SHA1 else hashlib.sha256()


_SIZES: Final = {ObjectFormat.SHA1: 20, ObjectFormat.SHA256: 32}


@dataclass(frozen=True, slots=True, order=True)
class ObjectId:
    """The id of a Git object, as its raw 20 (sha1) or 32 (sha256) bytes."""

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the id that `text` writes in full: 40 or 64 hex digits of either case.

        Raises:
            ObjectIdError: anything else.
        """
        if len(text) not in (40, 64) or not text.isascii() or not text.isalnum():
            raise ObjectIdError(f"'{text[:80]}' is not a full object id")
        try:
            return cls(bytes.fromhex(text))
        except ValueError:
            raise ObjectIdError(f"'{text}' is not a full object id") from None

    @property
    def hex(self) -> str:
        """The id as Git prints it."""
        return self.raw.hex()

    def __str__(self) -> str:
        return self.raw.hex()

    def __repr__(self) -> str:
        return f"ObjectId({self.raw.hex()})"


class ObjectIdMismatchError(IntegrityError):
    """A Git object's bytes do not hash to the id they came under."""

    def __init__(self, expected: ObjectId, actual: ObjectId) -> None:
        super().__init__(f"object '{expected}' is damaged: its bytes hash to '{actual}'")
        self.expected = expected
        self.actual = actual


def git_oid(object_format: ObjectFormat, payload: bytes) -> ObjectId:
    """Return the id of the object whose payload, header included, is `payload`."""
    if object_format is ObjectFormat.SHA1:
        return ObjectId(hashlib.sha1(payload).digest())
    return ObjectId(hashlib.sha256(payload).digest())


def verify_oid(object_format: ObjectFormat, payload: bytes, expected: ObjectId) -> None:
    """Check that `payload` is the object `expected`.

    Raises:
        ObjectIdMismatchError: it is another.
    """
    if (actual := git_oid(object_format, payload)) != expected:
        raise ObjectIdMismatchError(expected, actual)
