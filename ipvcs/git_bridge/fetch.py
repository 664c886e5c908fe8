"""One fetch by packs: those that hold something new go straight into `git index-pack`, while they arrive.

Whoever published them may lie about anything. `index-pack` computes the id of every object; that they are those that
were asked for, and lack nothing, git checks itself before it moves a ref. Malformed objects are carried as they are, as
git does unless the user has set `fetch.fsckObjects`: real histories have them.

Spec: DESIGN §5 "Fetch"; git-index-pack(1)
"""

import subprocess
from collections.abc import Sequence
from typing import Protocol

from ipvcs.errors import IntegrityError
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.local_objects import LocalObjects
from ipvcs.git_bridge.manifest import PackEntry
from ipvcs.git_bridge.object_feed import ObjectReader
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockReader
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.object_id import ObjectId


class ExpectingReader(BlockReader, Protocol):
    """A reader that can be told what will be read as a whole, to have all of it under way at once."""

    def expect(self, root: Cid) -> None:
        """Everything that `root` reaches will be read."""


class LyingRepositoryError(IntegrityError):
    """A repository that was published does not hold what it lists."""

    def __init__(self, oid: ObjectId) -> None:
        super().__init__(
            f"the repository lists object '{oid}', and none of its packs has it",
            hint="tell its publisher; nothing was changed here",
        )
        self.oid = oid


def fetch_packs(
    repository: GitRepository, reader: ExpectingReader, tree: PublishedTree, wanted: Sequence[ObjectId], *, quiet: bool
) -> None:
    """Bring the packs that may hold something of what `wanted` reach into `repository`.

    Raises:
        LyingRepositoryError: one of `wanted` is in none of them.
        GitError: a pack is damaged, or an object in it malformed.
        MissingLocallyError, RemoteCommandError: a block can't be had.
    """
    needed = _needed(repository, tree.manifest.packs)
    links = [tree.packs[f"{pack.name}.pack".encode()] for pack in needed]
    for link in links:
        reader.expect(link.cid)
    for link in links:
        file = FileReader(reader, link.cid)
        words = ("index-pack", "--stdin", *repository.index_pack_options(), *(() if quiet else ("-v",)))
        with repository.start(*words, stdin=subprocess.PIPE, is_shown=not quiet) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                for piece in file.iter_chunks():
                    process.stdin.write(piece)
                process.stdin.close()
            except BrokenPipeError:  # it has found something wrong, and says what
                pass
            process.stdout.read()
    with ObjectReader.open(repository) as objects:
        facts = LocalObjects(repository, objects)
        for oid in wanted:
            if not facts.has(oid):
                raise LyingRepositoryError(oid)


def _needed(repository: GitRepository, packs: Sequence[PackEntry]) -> list[PackEntry]:
    """Return the packs of which something is not here: of those whose tips are all here, nothing is."""
    with ObjectReader.open(repository) as objects:
        facts = LocalObjects(repository, objects)
        return [pack for pack in packs if not pack.tips or not all(map(facts.has, pack.tips))]
