"""A table of the home's datastore that is kept in memory and written behind: its rows, in short transactions.

What a node remembers of others (addresses, ledgers, names …) is owned by the event loop; only rows go to the disk, in a
thread. Each transaction keeps every other writer of the home waiting, so none has more than `BATCH` rows.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final, TypeVar

from ipvcs.storage.datastore import Datastore

_T = TypeVar("_T")

BATCH: Final = 1000
"""Rows a transaction."""


def write_rows(datastore: Datastore, table: Any, rows: Mapping[bytes, bytes | None]) -> None:
    """Write `rows` to `table`, a database of `datastore`, in the order of their keys; None: the row is to go.

    Raises:
        DiskError: full, read-only, not permitted; some may be written.
    """
    items = iter(sorted(rows.items()))
    while batch := list(islice(items, BATCH)):
        with datastore.write() as txn:
            for key, row in batch:
                if row is None:
                    txn.delete(key, db=table)
                else:
                    txn.put(key, row, db=table)


def delete_rows(datastore: Datastore, table: Any, keys: Iterable[bytes]) -> None:
    """Delete rows; errors as `write_rows`."""
    write_rows(datastore, table, dict.fromkeys(keys))


def read_rows(datastore: Datastore, table: Any, read: Callable[[bytes, bytes], _T | None]) -> list[_T]:
    """Return what `read` makes of each (key, row), in the order of the keys; rows of which it makes None are deleted.

    Raises:
        DiskError: not permitted, or the datastore is damaged.
    """
    found: list[_T] = []
    gone: list[bytes] = []
    with datastore.read() as txn, txn.cursor(db=table) as cursor:
        for key, value in cursor:
            item = read(bytes(key), bytes(value))
            if item is None:
                gone.append(bytes(key))
            else:
                found.append(item)
    delete_rows(datastore, table, gone)
    return found
