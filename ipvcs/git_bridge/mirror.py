"""The bare repository that an owner keeps for each place that others push to, and the quarantine in front of it.

    <home>/repositories/team%2Fproject.git     packs and refs of what is published there, no more and no less

Git needs it to tell whether a push is complete and a step forward, and hooks find their repository there. It is a copy:
if it is deleted, the next push makes it anew from the packs that the home holds anyway. One push at a time works on it;
what that brings lies apart, seen by it and its hooks alone, until it is published.

Spec: git-receive-pack(1), "QUARANTINE ENVIRONMENT"; docs/protocols/push.md, "What the owner does with an offer"
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ipvcs.git_bridge.bare_files import config_file, head_file
from ipvcs.git_bridge.git import ALTERNATES, GitError, GitRepository, alternates
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.git_bridge.quarantine import PACK_FILES, Quarantine, index_pack
from ipvcs.git_bridge.refname import RefName
from ipvcs.objects.block import BlockReader
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.storage.scratch import scratch_directory

DIRECTORY: Final = "repositories"
_MAX_NAME: Final = 200
"""Bytes of a directory's name; file systems take 255."""
_POLL: Final = 0.1
"""Seconds between looks at a lock that somebody else holds."""
_CONFIG: Final = b"[gc]\n\tauto = 0\n[include]\n\tpath = ../config\n"
"""Packs are those that are published, so none are merged. What the owner sets is in a file that outlives mirrors."""


class Mirror:
    """The repository of one place, while this process alone is at work on it."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        """Use `open_mirror`."""
        self.path = path
        self._environ = environ

    def sync(
        self,
        tree: PublishedTree | None,
        reader: BlockReader,
        object_format: ObjectFormat,
        head: RefName | None,
    ) -> None:
        """Make it what the published `tree` is, or empty, with `head` as its branch; killed, it is made so next time.

        What is published now is said by whoever reads it after our turn has come: anything else in the mirror is
        deleted, so that it vouches for nothing that readers could not fetch.

        Raises:
            GitError: there is no room, or a pack that was published is damaged.
            BlockNotFoundError: the home lost one.
        """
        repository = self._open(object_format)
        packs = {} if tree is None else {pack.name: pack.size for pack in tree.manifest.packs}
        self._prune({f"{name}{suffix}" for name in packs for suffix in PACK_FILES})
        for name, size in packs.items():
            if tree is not None and not self._has(name, size):
                for suffix in PACK_FILES:  # git would keep what is there
                    (self.path / "objects" / "pack" / f"{name}{suffix}").unlink(missing_ok=True)
                index_pack(repository, FileReader(reader, tree.packs[f"{name}.pack".encode()].cid), "--stdin")
        refs = {} if tree is None else {name: ref.oid for name, ref in tree.refs.items()}
        self._set_refs(refs, head if tree is None or tree.manifest.head is None else tree.manifest.head)

    def remove(self) -> None:
        """Have none, of a place where nothing is published."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _has(self, name: str, size: int) -> bool:
        """Tell whether a pack of `size` bytes is there whole, by the look of it."""
        path = self.path / "objects" / "pack" / name
        try:
            return path.with_suffix(".idx").stat().st_size > 0 and path.with_suffix(".pack").stat().st_size == size
        except FileNotFoundError:
            return False

    def _prune(self, wanted: Collection[str]) -> None:
        """Delete what is not one of the files `wanted`: packs of others, loose objects, alternates, what git began."""
        objects = self.path / "objects"
        for path in (*objects.glob("*"), *objects.glob("pack/*")):
            if path.name != "pack" and path.name not in wanted:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def _set_refs(self, refs: Mapping[RefName, ObjectId], head: RefName | ObjectId | None) -> None:
        """Let it have `refs`, and nothing else."""
        lines = b"".join(b"%b %b\n" % (refs[name].hex.encode(), name) for name in sorted(refs))
        self._write("packed-refs", lines)
        self._write("HEAD", head_file(RefName(b"refs/heads/main") if head is None else head))
        for path in (self.path / "refs").iterdir():  # what hooks made; without the directory, git sees no repository
            shutil.rmtree(path)

    def _open(self, object_format: ObjectFormat) -> GitRepository:
        repository = GitRepository(self.path, self._environ)
        if (self.path / "HEAD").exists():
            with suppress(GitError, ValueError):
                if repository.object_format is object_format:
                    return repository
        self.remove()
        beside = self.path.with_name(f"{self.path.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        GitRepository(beside, self._environ).run(
            "init", "--quiet", "--bare", f"--object-format={object_format}", "--template=", str(beside)
        )
        (beside / "config").write_bytes(config_file(object_format) + _CONFIG)
        beside.rename(self.path)
        return GitRepository(self.path, self._environ)

    def _write(self, name: str, data: bytes) -> None:
        beside = self.path / f"{name}.ipvcs"
        beside.write_bytes(data)
        beside.replace(self.path / name)

    @contextmanager
    def quarantine(self, temporary: Path) -> Iterator[Quarantine]:
        """Keep what a push brings apart, in a directory in `temporary`, while the block runs."""
        with scratch_directory(temporary, "receive-") as directory:
            (directory / "pack").mkdir()
            environ = {
                **self._environ,
                "GIT_OBJECT_DIRECTORY": str(directory),
                ALTERNATES: alternates(self.path / "objects"),
                "GIT_QUARANTINE_PATH": str(directory),  # git refuses to change refs where it is set
            }
            yield Quarantine(GitRepository(self.path, environ), directory, self.path / "objects" / "pack")


def _lock(path: Path, waiting: Callable[[], None]) -> int:
    """Return the descriptor of the file `path`, which nobody else has locked; whoever has may unlink it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    waiting()
                    time.sleep(_POLL)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextmanager
def open_mirror(
    home: Path, path: Sequence[bytes], environ: Mapping[str, str], waiting: Callable[[], None]
) -> Iterator[Mirror]:
    """Wait for our turn with the mirror of the place `path` in `home`; `waiting` is called while another has it."""
    directory = home / DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    name = mirror_name(path)
    descriptor = _lock(directory / f"{name}.lock", waiting)
    mirror = Mirror(directory / f"{name}.git", environ)
    try:
        yield mirror
    finally:
        if not mirror.path.exists():
            (directory / f"{name}.lock").unlink(missing_ok=True)
        os.close(descriptor)


def mirror_name(path: Sequence[bytes]) -> str:
    """Return the name of the mirror of the place `path`: another one for each."""
    name = quote(b"/".join(path) or b"/", safe="")
    if len(name) > _MAX_NAME:
        name = name[:100] + "+" + sha256(name.encode()).hexdigest()  # in a quoted name there is no plus
    return name
