"""The entries of a very large directory, sorted by hash on the disk instead of in memory.

Runs of entries are sorted in memory and written to files without names; reading merges them. A million entries take
some 30 MiB of memory so, and 100 bytes each on the disk.
"""

import heapq
import struct
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.hamt_shard import hash_name
from ipvcs.storage.disk import disk_errors

RUN_LENGTH: Final = 50_000
"""Entries sorted in memory at a time: some 20 MiB."""
_HEAD: Final = struct.Struct(">QQHH")  # hash, size, lengths of name and CID: a directory's names are at most 255 bytes
_BUFFER: Final = 64 * 1024


class EntrySorter:
    """Takes entries in any order, gives them back by the hashes of their names. Close it, or let go of it."""

    def __init__(self, directory: Path | None) -> None:
        """Keep the runs in `directory`; None is the system's place for temporary files."""
        self._directory = directory
        self._runs: list[IO[bytes]] = []
        self._latest: list[PBLink] = []

    def add(self, link: PBLink) -> None:
        """Take an entry, which has a name and a size. Raises DiskError."""
        self._latest.append(link)
        if len(self._latest) >= RUN_LENGTH:
            self._write_run()

    def by_hash(self) -> Iterator[tuple[int, PBLink]]:
        """Yield (hash, entry) of all entries, ascending. Raises DiskError."""
        return heapq.merge(*map(_read_run, self._runs), _sorted(self._latest))

    def close(self) -> None:
        """Give the disk space back."""
        for run in self._runs:
            run.close()

    def _write_run(self) -> None:
        directory = self._directory or Path(tempfile.gettempdir())
        with disk_errors(directory):
            run = tempfile.TemporaryFile(dir=directory, buffering=_BUFFER)  # noqa: SIM115 - closed by `close`
            self._runs.append(run)
            for name_hash, link in _sorted(self._latest):
                name, raw = link.name or b"", link.cid.raw
                run.write(_HEAD.pack(name_hash, link.size or 0, len(name), len(raw)) + name + raw)
            run.flush()
        self._latest.clear()


def _sorted(links: Iterable[PBLink]) -> list[tuple[int, PBLink]]:
    return sorted((hash_name(link.name or b""), link) for link in links)


def _read_run(run: IO[bytes]) -> Iterator[tuple[int, PBLink]]:
    run.seek(0)
    while head := run.read(_HEAD.size):
        name_hash, size, name_length, cid_length = _HEAD.unpack(head)
        name = run.read(name_length)
        yield name_hash, PBLink(Cid(run.read(cid_length)), name, size)
