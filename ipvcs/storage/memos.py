"""Memos: what was computed once and led to a CID, as "this Git object converts to that CID".

A memo lives as long as the block that it names: deleting the block deletes it in the same transaction.
"""

from collections.abc import Iterable, Mapping

from ipvcs.multiformats import varint
from ipvcs.multiformats.cid import Cid
from ipvcs.storage.datastore import Datastore


class Memos:
    """A table from keys of up to 400 bytes to (CID, size in bytes)."""

    def __init__(self, datastore: Datastore) -> None:
        self._store = datastore

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, tuple[Cid, int]]:
        """Return what is known of `keys`; unknown ones are left out."""
        found: dict[bytes, tuple[Cid, int]] = {}
        with self._store.read() as txn:
            for key in keys:
                if (value := txn.get(key, db=self._store.memos)) is not None:
                    found[key] = _unpack(value)
        return found

    def put_many(self, memos: Mapping[bytes, tuple[Cid, int]]) -> None:
        """Remember, durable on return. Memos of blocks that are not stored are not taken."""
        store = self._store
        with store.write() as txn:
            for key, (cid, size) in sorted(memos.items()):
                block_key = cid.multihash
                if not cid.is_identity and txn.get(block_key, db=store.blocks) is None:
                    continue
                if (old := txn.get(key, db=store.memos)) is not None:
                    txn.delete(_unpack(old)[0].multihash, key, db=store.memo_cids)
                if not cid.is_identity:
                    txn.put(block_key, key, db=store.memo_cids)
                txn.put(key, varint.encode(size) + cid.raw, db=store.memos)


def _unpack(value: bytes | memoryview) -> tuple[Cid, int]:
    size, end = varint.decode(value)
    return Cid(bytes(value[end:])), size
