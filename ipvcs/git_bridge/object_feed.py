"""Git objects as `git cat-file --batch` prints them: a line `<oid> <type> <size>`, the body, a newline.

`feeding` reads many, in the order in which git was given their ids; `ObjectReader` asks for one at a time, `TypeReader`
for its type alone.

Spec: git-cat-file(1), "BATCH OUTPUT"
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import PIPE
from typing import IO, Final, Self

from ipvcs.errors import IpvcsError, NotFoundError
from ipvcs.git_bridge.git import GitRepository
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.objects.git.payload import GitType

_FORMAT: Final = "--batch=%(objectname) %(objecttype) %(objectsize) %(rest)"
"""`%(rest)` makes git take the first word of each line alone; what follows is the path that `rev-list` prints."""
_SKIP_SIZE: Final = 1024 * 1024
_TYPES: Final = {git_type.encode(): git_type for git_type in GitType}


class GitObjectMissingError(NotFoundError):
    """The repository does not have an object that it should have."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"object '{name}' is missing from the repository",
            hint="`git fsck` lists what is damaged; in a partial clone, `git fetch --refetch` brings all of it",
        )
        self.name = name


class FeedError(IpvcsError):
    """`git cat-file` printed something else than objects."""


@dataclass(slots=True)
class FedObject:
    """One object while its body streams by: `read` gives up to so many bytes of it, b"" at its end."""

    oid: ObjectId
    type: GitType
    size: int
    _file: IO[bytes]
    _left: int

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes of the body, b"" at the end."""
        data = self._file.read(min(size, self._left))
        if not data and self._left:
            raise FeedError(f"git cat-file ends inside object '{self.oid}'")
        self._left -= len(data)
        return data

    def body(self) -> bytes:
        """Return the rest of the body, as large as it is."""
        return self.read(self._left) if self._left else b""

    def finish(self) -> None:
        """Read past what is left of the body."""
        while self._left:
            self.read(min(_SKIP_SIZE, self._left))
        if self._file.read(1) != b"\n":
            raise FeedError(f"git cat-file prints no newline after object '{self.oid}'")


@contextmanager
def feeding(repository: GitRepository, names: IO[bytes]) -> Iterator[Iterator[FedObject]]:
    """Yield the objects that the lines of the file `names` start with, in that order, as `rev-list --objects` prints
    them. Errors as `iter_objects`, and GitError.
    """
    with repository.start("cat-file", _FORMAT, "--buffer", stdin=names) as process:
        assert process.stdout is not None
        yield iter_objects(process.stdout)


def iter_objects(file: IO[bytes]) -> Iterator[FedObject]:
    """Yield the objects of a batch; what is not read of one is skipped before the next.

    Raises:
        GitObjectMissingError: there is no such object.
        FeedError: this is no output of `cat-file --batch`.
    """
    while line := file.readline():
        fed = _parse(line, file)
        yield fed
        fed.finish()


def _parse(line: bytes, file: IO[bytes]) -> FedObject:
    words = line.split(b" ", 3)
    if len(words) >= 2 and words[1].strip() in (b"missing", b"ambiguous"):
        raise GitObjectMissingError(words[0].decode(errors="replace"))
    try:
        size = int(words[2])
        return FedObject(ObjectId(bytes.fromhex(words[0].decode())), _TYPES[words[1]], size, file, size)
    except (ValueError, LookupError) as exc:
        raise FeedError(f"git cat-file prints '{line[:100].decode(errors='replace')}'") from exc


class TypeReader:
    """Types of objects of one repository; the process that looks stays until the end of the block."""

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._stdin = stdin
        self._stdout = stdout

    @classmethod
    @contextmanager
    def open(cls, repository: GitRepository) -> Iterator[Self]:
        """Look at objects of `repository` while the block runs."""
        with repository.start("cat-file", "--batch-check=%(objecttype)", stdin=PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            yield cls(process.stdin, process.stdout)

    def try_get(self, oid: ObjectId) -> GitType | None:
        """Return the object's type, None when it is not there."""
        self._stdin.write(oid.hex.encode() + b"\n")
        self._stdin.flush()
        line = self._stdout.readline().rstrip(b"\n")
        if line.endswith(b" missing"):
            return None
        try:
            return _TYPES[line]
        except LookupError as exc:
            raise FeedError(f"git cat-file prints '{line[:100].decode(errors='replace')}'") from exc


def find_all(repository: GitRepository, revisions: Sequence[bytes]) -> list[ObjectId | None]:
    """Return the ids of the objects that `revisions` name, None for each that names none, with one process for all."""
    names = b"".join(revision + b"\n" for revision in revisions)
    found = repository.run("cat-file", "--batch-check=%(objectname)", stdin=names).split(b"\n")[:-1]
    return [None if b" " in line else ObjectId.parse(line.decode()) for line in found]


class ObjectReader:
    """Objects of one repository, one at a time; the process that reads them stays until the end of the block."""

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._current: FedObject | None = None

    @classmethod
    @contextmanager
    def open(cls, repository: GitRepository) -> Iterator[Self]:
        """Read objects of `repository` while the block runs."""
        with repository.start("cat-file", _FORMAT, stdin=PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            reader = cls(process.stdin, process.stdout)
            yield reader
            reader._skip()  # or git would die of what nobody reads

    def get(self, oid: ObjectId) -> FedObject:
        """Return an object; the one before it can't be read any more. Raises GitObjectMissingError."""
        self._skip()
        self._stdin.write(oid.hex.encode() + b"\n")
        self._stdin.flush()
        self._current = _parse(self._stdout.readline(), self._stdout)
        return self._current

    def get_many(self, oids: Sequence[ObjectId]) -> Iterator[FedObject]:
        """Yield objects that are asked for all at once; each can be read until the next. Raises GitObjectMissingError.

        They are so few that their ids fit into a pipe: who writes while git writes would wait for ever.
        """
        self._skip()
        self._stdin.write(b"".join([b"%b\n" % oid.hex.encode() for oid in oids]))
        self._stdin.flush()
        for _oid in oids:
            self._skip()
            self._current = _parse(self._stdout.readline(), self._stdout)
            yield self._current

    def _skip(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            current.finish()
