"""What the user's repository knows of objects: the facts that a push is judged by."""

from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.object_feed import GitObjectMissingError, ObjectReader
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.objects.git.payload import GitType


class LocalObjects:
    """See `ref_updates.ObjectFacts`."""

    def __init__(self, repository: GitRepository, reader: ObjectReader) -> None:
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
        try:
            return self._reader.get(oid).type
        except GitObjectMissingError:
            return None

    def has(self, oid: ObjectId) -> bool:
        """Whether the object is there."""
        return self.type_of(oid) is not None

    def is_commit(self, oid: ObjectId) -> bool:
        """Whether it is a commit itself, not a tag of one."""
        return self.type_of(oid) is GitType.COMMIT

    def is_ancestor(self, old: ObjectId, new: ObjectId) -> bool:
        """Whether the commit `old` is in the history of `new`; both are there."""
        return self._repository.ask("merge-base", "--is-ancestor", old.hex, new.hex)
