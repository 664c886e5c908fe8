"""The home's one LMDB environment: block index, segments, pins, memos, counters, what a node remembers of others, and
what others may do here and did.

Each is a named database; one that an older home lacks is made when the home is opened.

One environment, so that what must change together does so in one transaction: sweeping a block deletes its index entry
and its memos at once. LMDB admits one environment a process and path, and none across a fork: `open_datastore` shares
them inside a process, and in a forked child those of the parent refuse to work.

LMDB guards its lock file by POSIX record locks, which the kernel drops when the process closes *any* descriptor of the
file. So nothing here or elsewhere may open `lock.mdb` while its environment is open: the next process would take it for
abandoned, make its mutexes anew, and two would write at once.

Spec: http://www.lmdb.tech/doc/
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

import lmdb

from ipvcs.errors import LocalProtocolError
from ipvcs.storage.disk import DiskError, disk_errors

_MAP_SIZE: Final = 1 << 40
"""Bytes of address space, not of disk: 1 TiB indexes ten billion blocks. Halved while the kernel refuses it."""
_MIN_MAP_SIZE: Final = 1 << 28
_MAX_READERS: Final = 1024
_DATABASES: Final = (
    "blocks", "segments", "pins", "memos", "memo_cids", "meta",
    "addresses", "values", "providers", "provided", "names", "ledgers",
    "access", "push_log", "push_answers", "push_keys",
)  # fmt: skip
_LOCK_FILE: Final = "lock.mdb"
_LOCK_FILE_SIZE: Final = 72 * 1024
"""Bytes; LMDB needs 192 and 64 a reader, and makes as many readers as fit into a file that is larger."""

COUNTER_EPOCH: Final = b"epoch"
COUNTER_SEGMENT: Final = b"segment"
COUNTER_LAYOUT: Final = b"layout"
"""Counts removals of segment files, so that other processes know to let go of them."""

_MADE: Final = b"made"
"""A key that only the making of a home writes: an environment without it is not the one that the home was made with."""

_open: dict[str, "Datastore"] = {}
_open_lock = threading.Lock()


class IndexLostError(DiskError):
    """The home's index is missing or empty. To go on with a new one would make garbage of every block."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"the index of the home, '{path}', is missing or empty",
            path,
            hint="restore it from a backup; or make a new home and `ipvcs dag import` the files in 'blocks' into it, "
            "each of which is a CAR, and pin what you want to keep",
        )


class Datastore:
    """A shared LMDB environment. Get one from `open_datastore`, give it back with `close`."""

    def __init__(self, path: Path, *, sync: bool, make: bool) -> None:
        self.path = path
        self.sync = sync
        self._users = 0
        with disk_errors(path):
            data = path / "data.mdb"
            if not make and not (data.exists() and data.stat().st_size):
                raise IndexLostError(path)
            _reserve(path / _LOCK_FILE)  # first: see above
            self.env = _open_environment(path, sync)
            self.env.reader_check()  # slots of processes that were killed
            databases = {name: self.env.open_db(name.encode(), dupsort=name == "memo_cids") for name in _DATABASES}
            self.blocks, self.segments = databases["blocks"], databases["segments"]
            self.pins, self.meta = databases["pins"], databases["meta"]
            self.memos, self.memo_cids = databases["memos"], databases["memo_cids"]
            self.addresses = databases["addresses"]  # the address book: peer id -> where it was reached
            self.values = databases["values"]  # values kept for the DHT: key -> record
            self.providers = databases["providers"]  # who said to have what, and where they are (routing/store_service)
            self.provided = databases["provided"]  # what we announced, and when (routing/reprovider)
            self.names = databases["names"]  # IPNS: peer id -> the best record seen, and our own
            self.ledgers = databases["ledgers"]  # Bitswap: peer id -> bytes both ways
            self.access = databases["access"]  # who else may push here, and what (access.py)
            self.push_log = databases["push_log"]  # the pushes of others, by number (push_log.py)
            self.push_answers = databases["push_answers"]  # what they were answered, by number, for a while
            self.push_keys = databases["push_keys"]  # pusher and key of an answered push -> its number
            with self.env.begin(write=make) as txn:
                if make:
                    txn.put(_MADE, b"1", db=self.meta)
                elif txn.get(_MADE, db=self.meta) is None:
                    self.env.close()
                    raise IndexLostError(path)

    @contextmanager
    def read(self) -> Iterator[lmdb.Transaction]:
        """Run a short read transaction: a consistent snapshot, which pins old pages while it lasts."""
        with disk_errors(self.path), self.begin() as txn:
            yield txn

    def begin(self) -> lmdb.Transaction:
        """Begin a read transaction: `read` without its translation of errors, for what is done once a block."""
        try:
            return self.env.begin()
        except lmdb.MapResizedError:
            self.env.set_mapsize(0)  # another process mapped it larger: adopt its size
            return self.env.begin()

    @contextmanager
    def write(self) -> Iterator[lmdb.Transaction]:
        """Run the one write transaction of all processes; committed and durable when the block ends without error."""
        with disk_errors(self.path):
            try:
                txn = self.env.begin(write=True)
            except lmdb.MapResizedError:
                self.env.set_mapsize(0)
                txn = self.env.begin(write=True)
            with txn:
                yield txn

    def counter(self, txn: lmdb.Transaction, name: bytes) -> int:
        """Return a counter's value, 0 at first."""
        return int.from_bytes(txn.get(name, b"", db=self.meta), "big")

    def bump(self, txn: lmdb.Transaction, name: bytes) -> int:
        """Add one to a counter and return the new value."""
        value = self.counter(txn, name) + 1
        txn.put(name, value.to_bytes(8, "big"), db=self.meta)
        return value

    def last_commit(self) -> int:
        """Return the number of the last transaction that any process committed: the same number, nothing changed."""
        number: int = self.env.info()["last_txnid"]
        return number

    def sync_now(self) -> None:
        """Return when all that was committed is durable, which with `sync` it is anyway."""
        if not self.sync:
            with disk_errors(self.path):
                self.env.sync(True)

    def close(self) -> None:
        """Give the environment back; the last user in the process closes it."""
        with _open_lock:
            self._users -= 1
            if self._users == 0:
                _open.pop(os.fspath(self.path), None)
                self.env.close()


def open_datastore(path: Path, *, sync: bool = True, make: bool = False) -> Datastore:
    """Open the environment in directory `path`, which exists, or share the one this process has open.

    `sync` False trades durability for speed: a crash of the machine (not of the process) may then damage the index.
    `make` is for the making of a home alone: it makes the environment where there is none.

    Raises:
        IndexLostError: there is none, and it is not to be made.
        DiskError: full, read-only, not permitted, or damaged.
    """
    path = path.resolve()
    key = os.fspath(path)
    with _open_lock:
        store = _open.get(key)
        if store is None:
            store = _open[key] = Datastore(path, sync=sync, make=make)
        store._users += 1
        return store


def _open_environment(path: Path, sync: bool) -> lmdb.Environment:
    size = _MAP_SIZE
    while True:
        try:
            return lmdb.open(
                os.fsencode(path), map_size=size, max_dbs=len(_DATABASES), max_readers=_MAX_READERS, mode=0o600,
                sync=sync, metasync=sync, readahead=False, subdir=True, create=True,
            )  # fmt: skip
        except (lmdb.MemoryError, lmdb.Error) as exc:
            # A limit on address space (ulimit -v, some containers) refuses the map; a smaller one may fit.
            if size <= _MIN_MAP_SIZE or "Cannot allocate memory" not in str(exc):
                raise
            size //= 2


def _reserve(lock_file: Path) -> None:
    """Give every page of the reader table real disk space: a write to a hole of it on a full disk would be a SIGBUS."""
    fd = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, _LOCK_FILE_SIZE)
    finally:
        os.close(fd)


class _Inherited:
    """Stands for an environment that the parent process opened."""

    def begin(self, **_options: object) -> lmdb.Transaction:
        raise LocalProtocolError("the store was opened before this process was forked; open it again")

    def close(self) -> None:
        """Do nothing: it is the parent's."""


def _after_fork() -> None:
    global _open_lock
    _open_lock = threading.Lock()  # a thread that is not here may have held it
    for store in _open.values():
        store.env.close()  # gives back this process's mapping and descriptors, none of the parent's locks
        store.env = cast("lmdb.Environment", _Inherited())
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
