"""Which names can be together: a repository has no ref `a` beside a ref `a/b`, as one would be a file and a directory.

Spec: git's refs.c, `refs_verify_refname_available`
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from ipvcs.git_bridge.refname import RefName


class RefDirectories:
    """The names of a repository's refs, and the directories that they are in."""

    def __init__(self, names: Iterable[RefName]) -> None:
        self._names: set[bytes] = set()
        self._directories: Counter[bytes] = Counter()
        for name in names:
            self.add(name)

    def add(self, name: RefName) -> None:
        """There is a ref of that name."""
        if name not in self._names:
            self._names.add(name)
            self._directories.update(_directories(name))

    def remove(self, name: RefName) -> None:
        """There is none any more."""
        if name in self._names:
            self._names.remove(name)
            self._directories.subtract(_directories(name))

    def obstacle(self, name: RefName) -> bytes | None:
        """Return a ref, or a directory of refs, that leaves no room for a ref `name`; None: there is none."""
        if self._directories[name] > 0:
            return min(each for each in self._names if each.startswith(name + b"/"))
        return next((each for each in _directories(name) if each in self._names), None)


def _directories(name: bytes) -> Iterator[bytes]:
    """Yield `refs`, `refs/heads` and so on, without the name itself."""
    end = name.find(b"/")
    while end >= 0:
        yield name[:end]
        end = name.find(b"/", end + 1)
