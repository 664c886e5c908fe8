"""One fetch by packs: those that hold something new go straight into `git index-pack`, while they arrive.

Whoever published them may lie about anything. `index-pack` computes the id of every object; that they are those that
were asked for, and lack nothing, git checks before it moves a ref, unless `index-pack` has done it already. Malformed
objects are carried as they are, as git does unless the user has set `fetch.fsckObjects`: real histories have them.

Spec: DESIGN §5 "Fetch"; git-index-pack(1)
"""

import subprocess
from collections.abc import Collection, Sequence
from functools import cache
from typing import Final

from ipvcs.git_bridge.git import GitError, GitRepository
from ipvcs.git_bridge.local_objects import LocalObjects
from ipvcs.git_bridge.object_feed import ObjectReader, TypeReader
from ipvcs.git_bridge.pack_choice import needed_packs
from ipvcs.git_bridge.published_tree import LyingRepositoryError, PublishedTree
from ipvcs.git_bridge.readers import ExpectingReader
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.headers import HeaderError, parse_commit
from ipvcs.objects.git.object_id import ObjectId

_SELF_CONTAINED: Final = "--check-self-contained-and-connected"
"""Has `index-pack` look whether all that the objects lead to is in the pack; it then ends with 1 if it is not."""


class PackFetch:
    """Brings the packs that may hold something of what `wanted` reach."""

    def __init__(
        self,
        repository: GitRepository,
        reader: ExpectingReader,
        tree: PublishedTree,
        wanted: Sequence[ObjectId],
        *,
        trusts: bool,
        quiet: bool,
    ) -> None:
        """Fetch into `repository`; `trusts` says that what is there is there with all that it reaches."""
        self._repository = repository
        self._reader = reader
        self._tree = tree
        self._wanted = tuple(wanted)
        self._trusts = trusts
        self._quiet = quiet

    def run(self, *, checks: bool) -> bool:
        """Do it; return whether nothing is missing, which is looked into if `checks`, and if that costs little.

        Raises:
            LyingRepositoryError: one of `wanted` is in none of them.
            GitError: a pack is damaged, or an object in it malformed.
            MissingLocallyError, RemoteCommandError: a block can't be had.
        """
        with TypeReader.open(self._repository) as types:
            facts = LocalObjects(self._repository, types)
            met: set[ObjectId] = set()

            @cache
            def has(oid: ObjectId) -> bool:
                if found := self._trusts and facts.has(oid):
                    met.add(oid)
                return found

            packs = self._tree.manifest.packs
            needed = needed_packs(packs, self._wanted, has)
            is_whole = self._index([pack.name for pack in needed], checks=checks and not met)
            if met and not facts.are_whole(met):  # an earlier fetch was interrupted
                rest = [pack.name for pack in packs if pack not in needed]
                self._index(rest, checks=False)
        with TypeReader.open(self._repository) as types:  # of git that sees the new packs
            for oid in self._wanted:
                if types.try_get(oid) is None:
                    raise LyingRepositoryError(oid)
        return is_whole

    def still_cut(self, shallow: Collection[ObjectId]) -> set[ObjectId]:
        """Return those of the commits `shallow` of which a parent is not here."""
        cut = set()
        object_format = self._tree.manifest.object_format
        with ObjectReader.open(self._repository) as objects, TypeReader.open(self._repository) as types:
            for oid in shallow:
                try:
                    parents = parse_commit(objects.get(oid).body(), object_format).parents
                except HeaderError:
                    continue
                if any(types.try_get(parent) is None for parent in parents):
                    cut.add(oid)
        return cut

    def _index(self, names: Sequence[str], *, checks: bool) -> bool:
        links = [self._tree.packs[f"{name}.pack".encode()] for name in names]
        for link in links:
            self._reader.expect(link.cid)
        if checks and len(links) == 1:
            return self._index_one(links[0], _SELF_CONTAINED)
        for link in links:
            self._index_one(link)
        return False

    def _index_one(self, link: PBLink, *options: str) -> bool:
        """Give git one pack; False: it is not whole by itself, which only `_SELF_CONTAINED` tells."""
        file = FileReader(self._reader, link.cid)
        words = ["index-pack", "--stdin", *options, *self._repository.index_pack_options()]
        if not self._quiet:
            words.append("-v")
        printed = b""
        try:
            with self._repository.start(*words, stdin=subprocess.PIPE, is_shown=not self._quiet) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                try:
                    for piece in file.iter_chunks():
                        process.stdin.write(piece)
                    process.stdin.close()
                except BrokenPipeError:  # it has found something wrong, and says what
                    pass
                printed = process.stdout.read()
        except GitError as exc:
            if _SELF_CONTAINED in options and exc.status == 1 and printed.startswith(b"pack\t"):
                return False
            raise
        return True
