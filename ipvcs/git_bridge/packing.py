"""One pack a push: Git's own, self-contained, with its deltas as they are, its index, and its table of commits.

Spec: DESIGN §5; git-pack-objects(1), gitformat-pack(5)
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from ipvcs.git_bridge.commits_table import encode_commits
from ipvcs.git_bridge.git import GitProcess, GitRepository
from ipvcs.git_bridge.manifest import PackEntry
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockWriter
from ipvcs.objects.chunkers.interface import Read
from ipvcs.objects.chunkers.size import SizeChunker
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.file_layout import build_file
from ipvcs.objects.git.layout import LAYOUT, PIECE_SIZE, put_file
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.storage.scratch import scratch_directory

_CHUNKER: Final = SizeChunker(PIECE_SIZE)
_COUNT_AT: Final = 8
"""Byte of a pack at which its count of objects stands, in four bytes."""

OnStored: TypeAlias = Callable[[int, int], None]
"""Called with how many bytes of a pack are stored, of how many."""


@dataclass(frozen=True, slots=True)
class StoredPack:
    """A pack as it is published: its entry in the manifest, and the links to its files by their names."""

    entry: PackEntry
    files: dict[bytes, PBLink]


@dataclass(frozen=True, slots=True)
class PackToBe:
    """A pack of what `tips` reach and `bases` do not, which git is making meanwhile in `directory`."""

    git: GitProcess
    tips: Sequence[ObjectId]
    bases: Sequence[ObjectId]
    directory: Path

    def store(
        self,
        commits: Iterable[tuple[ObjectId, Cid, int]],
        writer: BlockWriter,
        on_stored: OnStored = lambda _done, _size: None,
        /,
    ) -> StoredPack:
        """Wait for it and store it, with its table of `commits`; `on_stored` is told how many bytes of how many are.

        Raises:
            GitError: git can't pack.
        """
        assert self.git.stdout is not None
        name = self.git.stdout.read().decode().strip()
        self.git.finish()
        return store_pack(self.directory / f"pack-{name}", self.tips, self.bases, commits, writer, on_stored)


@contextmanager
def packing(
    repository: GitRepository, tips: Sequence[ObjectId], bases: Sequence[ObjectId], temporary: Path
) -> Iterator[PackToBe | None]:
    """Have git pack what `tips` reach and `bases` do not while the block runs, on another core.

    Yields None when that is nothing, as with a branch at a commit that is there. Files are made below `temporary`.
    """
    revisions = revisions_of(tips, bases)
    if not tips or not repository.run("rev-list", "--objects", "--max-count=1", "--stdin", stdin=revisions):
        yield None
        return
    with scratch_directory(temporary, "push-") as directory, (directory / "revisions").open("w+b") as asked:
        asked.write(revisions)
        asked.seek(0)
        # No thread waits for it: what interrupts us would have to wait for the thread.
        with repository.start(
            "pack-objects", "--revs", "--delta-base-offset", "-q", directory / "pack",
            stdin=asked, environ=repository.elsewhere(directory / "objects"),
        ) as git:  # fmt: skip
            yield PackToBe(git, tuple(tips), tuple(bases), directory)


def store_pack(
    path: Path,
    tips: Sequence[ObjectId],
    bases: Sequence[ObjectId],
    commits: Iterable[tuple[ObjectId, Cid, int]],
    writer: BlockWriter,
    on_stored: OnStored,
) -> StoredPack:
    """Store the files `path` with `.pack` and with `.idx`, which hold what `tips` reach and `bases` do not, and the
    table of `commits`.
    """
    files: dict[bytes, PBLink] = {}
    pack, index = (path.with_name(path.name + suffix) for suffix in (".pack", ".idx"))
    size = pack.stat().st_size
    for each in (pack, index):
        with each.open("rb") as file:
            read = _counting(file.read, size, on_stored) if each is pack else file.read
            built = build_file(_CHUNKER.chunks(read), LAYOUT, writer)
        files[each.name.encode()] = built.link(each.name.encode())
    table = f"{path.name}.commits".encode()
    files[table] = put_file(encode_commits(commits), writer).link(table)
    return StoredPack(PackEntry(path.name, size, count_objects(pack), tuple(tips), tuple(bases)), files)


def count_objects(pack: Path) -> int:
    """Return how many objects the pack file says it has."""
    with pack.open("rb") as file:
        head = file.read(_COUNT_AT + 4)
    return int.from_bytes(head[_COUNT_AT:], "big")


def _counting(read: Read, size: int, on_read: OnStored) -> Read:
    """Return `read` that tells how much of `size` bytes it has read."""
    done = 0

    def counted(count: int) -> bytes:
        nonlocal done
        data = read(count)
        done += len(data)
        on_read(done, size)
        return data

    return counted


def revisions_of(tips: Iterable[ObjectId], bases: Iterable[ObjectId]) -> bytes:
    """Return what to tell `rev-list` and its kin on stdin: what `tips` reach and `bases` do not."""
    return "".join([*(f"{tip}\n" for tip in tips), *(f"^{base}\n" for base in bases)]).encode()
