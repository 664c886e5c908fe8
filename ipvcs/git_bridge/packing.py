"""One pack a push: Git's own, self-contained, with its deltas as they are, its index, and its table of commits.

Spec: DESIGN §5; git-pack-objects(1), gitformat-pack(5)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ipvcs.git_bridge.commits_table import encode_commits
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.manifest import PackEntry
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockWriter
from ipvcs.objects.chunkers.size import SizeChunker
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.file_layout import build_file
from ipvcs.objects.git.layout import LAYOUT, PIECE_SIZE, put_file
from ipvcs.objects.git.object_id import ObjectId

_CHUNKER = SizeChunker(PIECE_SIZE)
_COUNT_AT = 8
"""Byte of a pack at which its count of objects stands, in four bytes."""


@dataclass(frozen=True, slots=True)
class StoredPack:
    """A pack as it is published: its entry in the manifest, and the links to its files by their names."""

    entry: PackEntry
    files: dict[bytes, PBLink]


def make_pack(
    repository: GitRepository,
    tips: Sequence[ObjectId],
    bases: Sequence[ObjectId],
    commits: Iterable[tuple[ObjectId, Cid, int]],
    directory: Path,
    writer: BlockWriter,
) -> StoredPack:
    """Let git pack what `tips` reach and `bases` do not, and store the pack.

    Args:
        repository: where the objects are.
        tips: objects of any type.
        bases: commits that the reader has.
        commits: the rows of its table of commits.
        directory: an empty one, for git to write to.
        writer: takes the files' blocks.

    Raises:
        GitError: git can't.
    """
    revisions = "".join([*(f"{tip}\n" for tip in tips), *(f"^{base}\n" for base in bases)])
    out = repository.run(
        "pack-objects", "--revs", "--delta-base-offset", "-q", directory / "pack",
        stdin=revisions.encode(), environ=repository.elsewhere(directory / "objects"),
    )  # fmt: skip
    name = f"pack-{out.decode().strip()}"
    files: dict[bytes, PBLink] = {}
    for suffix in (".pack", ".idx"):
        path = directory / (name + suffix)
        with path.open("rb") as file:
            built = build_file(_CHUNKER.chunks(file.read), LAYOUT, writer)
        files[path.name.encode()] = built.link(path.name.encode())
    table = f"{name}.commits".encode()
    files[table] = put_file(encode_commits(commits), writer).link(table)
    path = directory / f"{name}.pack"
    with path.open("rb") as file:
        head = file.read(_COUNT_AT + 4)
    entry = PackEntry(name, path.stat().st_size, int.from_bytes(head[_COUNT_AT:], "big"), tuple(tips), tuple(bases))
    return StoredPack(entry, files)
