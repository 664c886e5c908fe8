"""Where fetched objects go: packs of ours, which git indexes beside the fetch, and which are moved in when all is here.

    objects ─► PackWriter ─► git index-pack, in a directory apart ─► objects/pack

A pack of several hundred megabytes takes git as long as a good part of the fetch, so a large fetch is cut into several.
Until the last of them is indexed the repository is untouched.

Spec: DESIGN §3.1 "Fetch"; git's tmp-objdir.h, by whose prefix `git prune` knows what a killed fetch has left behind
"""

import shutil
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Final

from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.pack_writer import PackWriter
from ipvcs.objects.chunkers.interface import Read
from ipvcs.objects.git.object_id import ObjectFormat
from ipvcs.objects.git.payload import GitType

PACK_SIZE: Final = 48 * 1024 * 1024
"""Bytes of a pack after which the next one begins: git takes about a second for one."""
_MOST_PACKS: Final = 16
"""Packs that are cut, the rest is the last one: git repacks by itself where there are over 50."""
_BUFFER: Final = 1024 * 1024


class PackSink:
    """Takes objects. `count` are in it. Use `packing_apart`."""

    def __init__(
        self,
        repository: GitRepository,
        object_format: ObjectFormat,
        directory: Path,
        apart: Path,
        threads: Executor,
        indexer: Executor,
    ) -> None:
        self.count = 0
        self._repository = repository
        self._format = object_format
        self._directory = directory
        self._environ = repository.elsewhere(apart / "objects")
        self._pack_directory = apart / "objects" / "pack"
        self._options = repository.index_pack_options()
        self._threads = threads
        self._indexer = indexer
        self._indexed: list[Future[None]] = []
        self._files: list[IO[bytes]] = []
        self._begin()

    def add_whole(self, git_type: GitType, body: bytes) -> None:
        """Add an object that is held already."""
        self._writer.add_whole(git_type, body)
        self._added()

    def add(self, git_type: GitType, size: int, read: Read) -> None:
        """Add an object of `size` bytes, which `read` gives. When it raises, all of it is spoilt."""
        self._writer.add(git_type, size, read)
        self._added()

    def finish(self, shallow: Path | None = None) -> None:
        """Return when all objects are in the repository.

        `shallow` is a file that says which commits lack their parents, for a strict check.

        Raises:
            GitError: git finds fault with a pack; nothing has changed then.
        """
        if shallow is not None:
            self._environ["GIT_SHALLOW_FILE"] = str(shallow)
        if self._writer.count:
            self._cut()
        for each in self._indexed:
            each.result()
        target = self._repository.objects / "pack"
        target.mkdir(exist_ok=True)
        # Pack by pack, the index last: by it git finds a pack.
        for path in sorted(self._pack_directory.iterdir(), key=lambda path: (path.stem, path.suffix == ".idx")):
            shutil.move(path, target / path.name)

    def close(self) -> None:
        """Let go of the packs that were written."""
        for file in self._files:
            file.close()

    def _begin(self) -> None:
        self._files.append(TemporaryFile(dir=self._directory, buffering=_BUFFER))  # noqa: SIM115  (`close` does)
        self._writer = PackWriter(self._files[-1], self._format, self._threads)

    def _added(self) -> None:
        self.count += 1
        # A pack that is checked strictly has to have all that its objects lead to.
        if not self._options and self._writer.size >= PACK_SIZE and len(self._indexed) < _MOST_PACKS:
            self._cut()
            self._begin()

    def _cut(self) -> None:
        for each in self._indexed:
            if each.done():
                each.result()  # what has failed need not be gone on with
        self._writer.finish()
        self._indexed.append(self._indexer.submit(self._index, self._files[-1]))

    def _index(self, file: IO[bytes]) -> None:
        """Give git one pack. Runs in a thread."""
        with file:
            self._repository.run("index-pack", "--stdin", *self._options, stdin=file, environ=self._environ)


@contextmanager
def packing_apart(
    repository: GitRepository, object_format: ObjectFormat, directory: Path, threads: Executor
) -> Iterator[PackSink]:
    """Take objects for `repository`, to which they get by `finish`. Packs are written in `directory`."""
    objects = repository.objects
    objects.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=objects, prefix="tmp_objdir-fetch-") as apart, ThreadPoolExecutor(1) as indexer:
        sink = PackSink(repository, object_format, directory, Path(apart), threads, indexer)
        try:
            yield sink
        finally:
            indexer.shutdown(cancel_futures=True)
            sink.close()
