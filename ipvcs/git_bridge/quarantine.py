"""What a push brings, apart from the mirror until it is published: indexed by git, and looked at.

Spec: git-receive-pack(1), "QUARANTINE ENVIRONMENT"; git-index-pack(1)
"""

import os
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipvcs.errors import IntegrityError, IpvcsError, LimitError
from ipvcs.git_bridge.git import GitError, GitRepository
from ipvcs.objects.file_reader import FileReader
from ipvcs.storage.disk import DiskFullError

PACK_FILES: Final = (".pack", ".idx", ".rev")
"""Suffixes, in the order in which git must come to see them."""
_PATH: Final = re.compile(r"/\S*")
"""What looks like a path of this machine."""
_FAULT: Final = re.compile(r"object [0-9a-f]{40,64}: ([a-zA-Z]+): ")
"""Where git names the fault that it finds in an object, as its settings do. Spec: git-fsck(1), "FSCK MESSAGES"."""
_MAX_WORDS: Final = 1000
"""Characters of what git said."""
_LENIENT: Final = ("badTimezone", "missingSpaceBeforeDate", "zeroPaddedFilemode")
"""Faults that respected histories have had for many years, and that harm nobody: docs/decisions/0011."""


class RefusedPackError(IntegrityError):
    """Git refuses a pack. The message has git's own words, without paths of this machine."""

    def __init__(self, words: str) -> None:
        said = _PATH.sub("…", words.strip())[-_MAX_WORDS:]
        hint = "`git fsck` says more"
        if found := _FAULT.search(said):
            setting = f"git config -f repositories/config receive.fsck.{found[1]} ignore"
            hint += f"; the owner may let it through by `{setting}` in the home"
        super().__init__(f"the pack is refused: {said}", hint=hint)


class PackMemoryError(LimitError):
    """To index a pack takes more memory than there is for it."""

    def __init__(self) -> None:
        super().__init__("this push takes more memory than the owner has for it", hint="push in several steps")


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A view of the mirror, with more objects in `directory`; `home` is where packs go that have been accepted."""

    repository: GitRepository
    directory: Path
    home: Path

    def index(self, pack: FileReader, max_bytes: int) -> Path:
        """Let git index the file `pack` as it checks what it fetches; return where it is, without suffix.

        Raises:
            RefusedPackError: it is damaged, or over `max_bytes`; an object is malformed, or what it leads to nowhere.
            DiskFullError. PackMemoryError: git takes too much memory for it, or was killed.
        """
        words = ["--stdin", *self._strictness(), f"--max-input-size={max_bytes}"]
        try:
            index_pack(self.repository, pack, *words)
        except GitError as exc:
            raise self._reason(exc) from exc
        (index,) = (self.directory / "pack").glob("pack-*.idx")
        return index.with_suffix("")

    def ids_of(self, pack: Path) -> list[str]:
        """Return the ids of all objects in `pack`, sorted."""
        with pack.with_suffix(".idx").open("rb") as file:
            listed = self.repository.run("show-index", f"--object-format={self.repository.object_format}", stdin=file)
        return [line.split()[1].decode() for line in listed.splitlines()]

    def inflated_size(self, pack: Path) -> int:
        """Return the bytes of all objects of `pack` together."""
        names = "".join(f"{each}\n" for each in self.ids_of(pack)).encode()
        sizes = self.repository.run("cat-file", "--batch-check=%(objectsize)", "--buffer", stdin=names)
        return sum(map(int, sizes.split()))

    def accept(self) -> None:
        """Let the mirror have it."""
        for suffix in PACK_FILES:  # the index comes after the pack that it is of
            for path in (self.directory / "pack").glob(f"pack-*{suffix}"):
                os.replace(path, self.home / path.name)  # noqa: PTH105 - on one file system

    def _reason(self, error: GitError) -> IpvcsError:
        """Return what an `index-pack` that failed says of the pack, or of this machine."""
        if "No space left" in error.words:
            return DiskFullError(self.directory)
        if error.status < 0 or "memory" in error.words.lower():
            return PackMemoryError()
        return RefusedPackError(error.words.replace(str(self.directory), "").replace(str(self.home), ""))

    def _strictness(self) -> Sequence[str]:
        """Return how git should look at objects: the mirror's own settings count as in `git receive-pack`."""
        for key in ("receive.fsckObjects", "transfer.fsckObjects"):
            if (value := self._setting("--type=bool", "--get", key)) is not None:
                if value == b"false":
                    return ()
                break
        severities = dict.fromkeys(_LENIENT, "ignore")
        for line in (self._setting("--get-regexp", r"^receive\.fsck\.") or b"").decode(errors="replace").splitlines():
            key, _, severity = line.partition(" ")
            name = key.rpartition(".")[2]
            known = next((each for each in severities if each.lower() == name), name)
            severities[known] = severity
        return ("--strict=" + ",".join(f"{name}={severity}" for name, severity in severities.items()),)

    def _setting(self, *words: str) -> bytes | None:
        try:
            return self.repository.run("config", *words).strip()
        except GitError as exc:
            if exc.status != 1:  # 1: not set
                raise
        return None


def index_pack(repository: GitRepository, pack: FileReader, *words: str) -> None:
    """Give git one pack to index."""
    with repository.start("index-pack", *words, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # it has found something wrong, and says what
            for piece in pack.iter_chunks():
                process.stdin.write(piece)
            process.stdin.close()
        process.stdout.read()
