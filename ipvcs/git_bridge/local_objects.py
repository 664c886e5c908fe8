"""What the user's repository knows of objects: the facts that a push is judged by."""

from collections.abc import Iterable

from ipvcs.git_bridge.git import GitError, GitRepository
from ipvcs.git_bridge.object_feed import TypeReader
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.objects.git.payload import GitType


class LocalObjects:
    """See `ref_updates.ObjectFacts`."""

    def __init__(self, repository: GitRepository, reader: TypeReader) -> None:
        self._repository = repository
        self._reader = reader

    def is_empty(self) -> bool:
        """Whether the repository has no objects at all, of its own or of others that it borrows from."""
        found = self._repository.run("count-objects", "-v").splitlines()
        return all(line.endswith(b": 0") for line in found if line.startswith((b"count:", b"in-pack:"))) and not any(
            line.startswith(b"alternate:") for line in found
        )

    def type_of(self, oid: ObjectId) -> GitType | None:
        """Return the object's type, None when it is not there."""
        return self._reader.try_get(oid)

    def has(self, oid: ObjectId) -> bool:
        """Whether the object is there."""
        return self.type_of(oid) is not None

    def is_commit(self, oid: ObjectId) -> bool:
        """Whether it is a commit itself, not a tag of one."""
        return self.type_of(oid) is GitType.COMMIT

    def is_ancestor(self, old: ObjectId, new: ObjectId) -> bool:
        """Whether the commit `old` is in the history of `new`; both are there."""
        return self._repository.ask("merge-base", "--is-ancestor", old.hex, new.hex)

    def are_whole(self, oids: Iterable[ObjectId]) -> bool:
        """Whether all that `oids` lead to is there; what refs lead to is."""
        try:
            self._repository.run(
                "rev-list", "--objects", "--quiet", "--stdin", "--not", "--all", "--alternate-refs",
                stdin="".join(f"{oid}\n" for oid in oids).encode(),
            )  # fmt: skip
        except GitError:
            return False
        return True


def commits_among(repository: GitRepository, oids: Iterable[ObjectId]) -> list[ObjectId]:
    """Return those of `oids` that are there and commits themselves, in order. All are asked for at once."""
    names = "".join(f"{oid}\n" for oid in oids).encode()
    out = repository.run("cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=names)
    lines = map(str.split, out.decode().splitlines())
    return [ObjectId.parse(name) for name, word, *_rest in lines if word == GitType.COMMIT]
