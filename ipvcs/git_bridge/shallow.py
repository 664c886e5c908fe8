"""Where a history was cut off: `$GIT_DIR/shallow` lists the commits whose parents were left out.

The file is changed as git changes it: written beside itself under the name that locks it, then renamed.

Spec: gitrepository-layout(5) "shallow"; git's shallow.c
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipvcs.errors import ConflictError, DecodeError
from ipvcs.git_bridge.git import GitRepository
from ipvcs.objects.git.object_id import ObjectId, ObjectIdError

WHOLE: Final = 0x7FFFFFFF
"""The depth that git asks for when it means all of a history: `git fetch --unshallow`."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How much of a history is wanted: `generations`, counted from what is wanted, which is the first of them.

    If `deepens`, they are counted from where the history is cut off now, which is none of them.
    """

    generations: int
    deepens: bool = False


class ShallowLockedError(ConflictError):
    """Another process changes the list."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"cannot create '{path}': file exists",
            hint="another git process is at work in this repository, or was killed there: then remove the file",
        )
        self.path = path


class ShallowChangedError(ConflictError):
    """Another process has changed the list since we read it."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"'{path}' has changed since it was read", hint="another git was faster: fetch again")
        self.path = path


class ShallowFileError(DecodeError):
    """The list is damaged."""


def read_shallow(repository: GitRepository) -> frozenset[ObjectId]:
    """Return the commits whose parents were left out. Raises ShallowFileError."""
    path = _path(repository)
    try:
        return frozenset(map(ObjectId.parse, path.read_text(encoding="ascii", errors="replace").split()))
    except FileNotFoundError:
        return frozenset()
    except ObjectIdError as exc:
        raise ShallowFileError(
            f"bad line in '{path}': {exc}", hint="it lists ids of commits, one a line; git can't read it either"
        ) from exc


def write_shallow(repository: GitRepository, commits: Collection[ObjectId], before: frozenset[ObjectId]) -> None:
    """Let `commits` be those whose parents were left out, instead of those `before`; none: the history is whole.

    Raises:
        ShallowLockedError: somebody else is about to.
        ShallowChangedError: they are not those `before` any more.
    """
    path = _path(repository)
    lock = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        raise ShallowLockedError(lock) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(shallow_file(commits))
            file.flush()
            os.fsync(file.fileno())
        if read_shallow(repository) != before:
            raise ShallowChangedError(path)
        if not commits:
            path.unlink(missing_ok=True)
    except BaseException:
        lock.unlink()
        raise
    if commits:
        lock.replace(path)
    else:
        lock.unlink()


def shallow_file(commits: Collection[ObjectId]) -> bytes:
    """Return the list of `commits` as git reads it."""
    return "".join(f"{oid}\n" for oid in sorted(commits)).encode()


def _path(repository: GitRepository) -> Path:
    found = repository.run("rev-parse", "--git-path", "shallow").decode(errors="surrogateescape").removesuffix("\n")
    return Path(found)
