"""How blocks could be kept, side by side: `python -m bench stores [--directory D] [--runs N] [--scale F]`.

For blocks of 300 B, 16 KiB and 1 MiB: put all, durable before it counts (sync on, one group commit for 64 MiB or 20,000
blocks, as the store does it by itself), get all in random order, ask for as many that are there as are not. Medians of
`--runs`; MB are 10^6 bytes. Hashing is not in it: the blocks are made before the clock starts. Reads come from the page
cache, as they do for blocks that were just put. The directory should be on the disk that matters, not in memory.
"""

import argparse
import os
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import lmdb

from ipvcs.objects.block import Block
from ipvcs.storage.home import open_home
from ipvcs.storage.session import FLUSH_COUNT, FLUSH_SIZE

_SIZES = {"300 B": (300, 60_000), "16 KiB": (16 * 1024, 6_000), "1 MiB": (1024 * 1024, 300)}
_FEWER_FILES = 10  # a file for each of 60,000 blocks takes minutes to sync


class Candidate(Protocol):
    """A way to keep blocks."""

    def put_many(self, blocks: Sequence[Block]) -> None:
        """Store, durable on return."""

    def get(self, block: Block) -> bytes | None:
        """Return the bytes."""

    def has(self, block: Block) -> bool:
        """Tell whether it is there."""

    def close(self) -> None:
        """Let go of everything."""


class Segments:
    """What ipvcs does: append-only segments and an LMDB index."""

    def __init__(self, path: Path) -> None:
        self._home = open_home(path / "home")

    def put_many(self, blocks: Sequence[Block]) -> None:
        self._home.blocks.put_many(blocks)

    def get(self, block: Block) -> bytes | None:
        return self._home.blocks.try_get(block.cid)

    def has(self, block: Block) -> bool:
        return self._home.blocks.has(block.cid)

    def close(self) -> None:
        self._home.close()


class InlineLmdb:
    """LMDB with the blocks as values."""

    def __init__(self, path: Path) -> None:
        self._env = lmdb.open(os.fspath(path / "lmdb"), map_size=1 << 36)

    def put_many(self, blocks: Sequence[Block]) -> None:
        for group in _groups(blocks):
            with self._env.begin(write=True) as txn:
                for block in sorted(group, key=lambda block: block.cid.multihash):
                    txn.put(block.cid.multihash, block.data, overwrite=False)

    def get(self, block: Block) -> bytes | None:
        with self._env.begin() as txn:
            value = txn.get(block.cid.multihash)
            return bytes(value) if value is not None else None

    def has(self, block: Block) -> bool:
        with self._env.begin(buffers=True) as txn:
            return txn.get(block.cid.multihash) is not None

    def close(self) -> None:
        self._env.close()


class Sqlite:
    """SQLite, write-ahead log, synchronous=FULL."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path / "blocks.sqlite", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE blocks (multihash BLOB PRIMARY KEY, data BLOB)")

    def put_many(self, blocks: Sequence[Block]) -> None:
        for group in _groups(blocks):
            self._db.execute("BEGIN IMMEDIATE")
            rows = sorted((block.cid.multihash, block.data) for block in group)
            self._db.executemany("INSERT OR IGNORE INTO blocks VALUES (?, ?)", rows)
            self._db.execute("COMMIT")

    def get(self, block: Block) -> bytes | None:
        row = self._db.execute("SELECT data FROM blocks WHERE multihash = ?", (block.cid.multihash,)).fetchone()
        return row[0] if row else None

    def has(self, block: Block) -> bool:
        query = "SELECT 1 FROM blocks WHERE multihash = ?"
        return self._db.execute(query, (block.cid.multihash,)).fetchone() is not None

    def close(self) -> None:
        self._db.close()


class Files:
    """A file for each block in 1024 directories, as flatfs and restic have it: write, fsync, rename."""

    def __init__(self, path: Path) -> None:
        self._path = os.fspath(path)
        for number in range(1024):
            (path / f"{number:03x}").mkdir()

    def put_many(self, blocks: Sequence[Block]) -> None:
        directories = set()
        for block in blocks:
            name = self._name(block)
            if os.path.exists(name):  # noqa: PTH110 - a Path for each block would cost more than the call
                continue
            fd = os.open(name + ".part", os.O_WRONLY | os.O_CREAT)
            os.write(fd, block.data)
            os.fsync(fd)
            os.close(fd)
            os.rename(name + ".part", name)  # noqa: PTH104
            directories.add(os.path.dirname(name))  # noqa: PTH120
        for directory in directories:
            fd = os.open(directory, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)

    def get(self, block: Block) -> bytes | None:
        try:
            with open(self._name(block), "rb", buffering=0) as file:  # noqa: PTH123
                return file.read()
        except FileNotFoundError:
            return None

    def has(self, block: Block) -> bool:
        return os.path.exists(self._name(block))  # noqa: PTH110

    def close(self) -> None:
        """Nothing is open."""

    def _name(self, block: Block) -> str:
        digest = block.cid.multihash[2:].hex()
        return f"{self._path}/{int(digest[:3], 16) % 1024:03x}/{digest}"


_CANDIDATES: dict[str, Callable[[Path], Candidate]] = {
    "segments + LMDB index": Segments,
    "LMDB, values inline": InlineLmdb,
    "SQLite, WAL": Sqlite,
    "file per block": Files,
}


def _groups(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    group: list[Block] = []
    size = 0
    for block in blocks:
        group.append(block)
        size += len(block.data)
        if size >= FLUSH_SIZE or len(group) >= FLUSH_COUNT:
            yield group
            group, size = [], 0
    if group:
        yield group


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _measure(make: Callable[[Path], Candidate], directory: Path, blocks: list[Block]) -> tuple[float, float, float]:
    """Return blocks a second of put, get and has."""
    path = Path(tempfile.mkdtemp(prefix="stores-", dir=directory))
    shuffled = random.Random(0).sample(blocks, len(blocks))
    absent = [Block.of(number.to_bytes(8, "big")) for number in range(len(blocks))]
    try:
        os.sync()
        candidate = make(path)
        put = _seconds(lambda: candidate.put_many(blocks))
        get, has = candidate.get, candidate.has
        got = _seconds(lambda: deque(map(get, shuffled), maxlen=0))
        asked = _seconds(lambda: deque(map(has, (*shuffled, *absent)), maxlen=0))
        assert all(get(block) == block.data for block in blocks[:50])
        assert not any(has(block) for block in absent[:50])
        candidate.close()
    finally:
        shutil.rmtree(path)
    return len(blocks) / put, len(blocks) / got, 2 * len(blocks) / asked


def main(words: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench stores", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of blocks")
    arguments = parser.parse_args(words)
    print(f"{'blocks':8} {'store':24} {'put /s':>10} {'MB/s':>8} {'get /s':>10} {'MB/s':>8} {'has /s':>10}")
    for name, (size, usual) in _SIZES.items():
        blocks = [Block.of(os.urandom(size)) for _ in range(max(50, int(usual * arguments.scale)))]
        few = blocks[: len(blocks) // _FEWER_FILES] if size < 1 << 20 else blocks
        runs: dict[str, list[tuple[float, float, float]]] = {store: [] for store in _CANDIDATES}
        for _ in range(arguments.runs):  # in turns, so that the machine's moods meet all alike
            for store, make in _CANDIDATES.items():
                runs[store].append(_measure(make, arguments.directory, few if make is Files else blocks))
        for store, measured in runs.items():
            put, got, asked = (statistics.median(column) for column in zip(*measured, strict=True))
            rates = f"{put:10.0f} {put * size / 1e6:8.0f} {got:10.0f} {got * size / 1e6:8.0f} {asked:10.0f}"
            print(f"{name:8} {store:24} {rates}", flush=True)
