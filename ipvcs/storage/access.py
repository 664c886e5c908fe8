"""The owner's access list: which other nodes may push behind this node's name, where, and what.

One row an entry in the home's datastore, key: the size of the peer id (1 byte), the peer id, the path's components with
a NUL between them; value: the names of the rights, a comma between them. Nothing is kept in memory, so a change by any
process counts from the next question on. A row that can't be read gives no rights.

Spec: docs/protocols/push.md, "Rights" and "Bounds"
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import lmdb

from ipvcs.errors import DecodeError, LimitError, LocalProtocolError, shorten
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.multiformats.typed import parse_typed
from ipvcs.storage.datastore import Datastore

_log = logging.getLogger(__name__)

MAX_ENTRIES: Final = 10_000
"""Entries of the list: what `entries` reads and sorts at once."""
MAX_COMPONENTS: Final = 16
MAX_PATH: Final = 255
"""Bytes of a path's components together. With separators and peer id a key has 315 at most, of LMDB's 511."""
_SEPARATOR: Final = b"\0"
_ALL: Final = "all"


class Right(StrEnum):
    """What a pusher may do to refs. Each is named as people write it and as the protocol sends it."""

    CREATE = "create"
    UPDATE = "update"
    FORCE = "force"
    DELETE = "delete"
    TAG = "tag"


DEFAULT_RIGHTS: Final = frozenset((Right.CREATE, Right.UPDATE, Right.TAG))
"""What an entry gives where nothing else is asked for: all by which nothing that is there gets lost."""


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """`peer` has `rights`, at least one, at `path` and below it; () is everything behind the name."""

    peer: PeerId
    path: tuple[bytes, ...]
    rights: frozenset[Right]


class RightsError(DecodeError):
    """Text names something that is no right, or none at all."""

    def __init__(self, message: str) -> None:
        known = ", ".join(Right)
        super().__init__(message, hint=f"the rights are {known}; `{_ALL}` stands for all of them")


class RepositoryPathError(DecodeError):
    """No repository can be at that path. `path` are its components."""

    def __init__(self, path: Sequence[bytes], why: str) -> None:
        super().__init__(
            f"no repository can be at '{shorten(show_repository_path(path))}': {why}",
            hint="a path behind the name looks like 'team/project', and '/' is the name itself",
        )
        self.path = tuple(path)


class AccessListFullError(LimitError):
    """No entry can be added."""

    def __init__(self) -> None:
        super().__init__(
            f"the access list has {MAX_ENTRIES:,} entries, and takes no more",
            hint="`ipvcs access rm` removes entries; one for a directory counts for all repositories below it",
        )


class AccessList:
    """The list on the disk. Its methods touch the disk; each sees, and makes, one state of the list."""

    def __init__(self, datastore: Datastore) -> None:
        self._store = datastore

    def add(self, peer: PeerId, path: Sequence[bytes], rights: Iterable[Right]) -> AccessEntry:
        """Give `peer` rights at `path` and below, besides those that its entry there gives already; durable on return.

        Returns:
            The entry as it is now.

        Raises:
            RepositoryPathError: no repository can be there.
            AccessListFullError: it would be entry `MAX_ENTRIES` + 1.
            LocalProtocolError: `rights` is empty.
            DiskError: full, read-only, not permitted: nothing is changed.
        """
        added = frozenset(rights)
        if not added:
            raise LocalProtocolError("an entry of the access list gives at least one right")
        check_repository_path(path)
        key = _encode_key(peer, path)
        with self._store.write() as txn:
            row = txn.get(key, db=self._store.access)
            if row is None and txn.stat(self._store.access)["entries"] >= MAX_ENTRIES:
                raise AccessListFullError
            now = added | _readable_rights(key, row)
            txn.put(key, show_rights(now).encode(), db=self._store.access)
        self._store.sync_now()
        return AccessEntry(peer, tuple(path), now)

    def remove(self, peer: PeerId, path: Sequence[bytes], rights: Iterable[Right] | None = None) -> bool:
        """Take `rights` from the entry of `peer` for exactly `path`; durable on return. None: the entry is to go.

        An entry without rights goes, too. What entries for paths above give is not touched.

        Returns:
            Whether there was any of it.

        Raises:
            RepositoryPathError: no repository can be there.
            DiskError: read-only, not permitted: nothing is changed.
        """
        check_repository_path(path)
        key = _encode_key(peer, path)
        with self._store.write() as txn:
            row = txn.get(key, db=self._store.access)
            if row is None:
                return False
            before = _readable_rights(key, row)
            left = frozenset[Right]() if rights is None else before - frozenset(rights)
            if rights is not None and left == before:
                return False
            if left:
                txn.put(key, show_rights(left).encode(), db=self._store.access)
            else:
                txn.delete(key, db=self._store.access)
        self._store.sync_now()
        return True

    def entries(self) -> list[AccessEntry]:
        """Return all entries, by path and then by peer; damaged ones are left out, after a line in the log.

        Raises:
            DiskError: not permitted, or the datastore is damaged.
        """
        with self._store.read() as txn, txn.cursor(db=self._store.access) as cursor:
            found = list(_iter_entries(cursor))
        return sorted(found, key=lambda entry: (entry.path, entry.peer))

    def rights_of(self, peer: PeerId, path: Sequence[bytes]) -> frozenset[Right]:
        """Return what `peer` may do in the repository at `path`: what its entries there and above give together.

        Raises:
            RepositoryPathError: no repository can be there.
            DiskError: not permitted, or the datastore is damaged.
        """
        check_repository_path(path)
        rights = frozenset[Right]()
        with self._store.read() as txn:
            for depth in range(len(path) + 1):
                key = _encode_key(peer, path[:depth])
                rights |= _readable_rights(key, txn.get(key, db=self._store.access))
        return rights

    def is_known(self, peer: PeerId) -> bool:
        """Tell whether any entry gives `peer` rights, wherever. Raises DiskError, as `rights_of`."""
        prefix = _prefix(peer)
        with self._store.read() as txn, txn.cursor(db=self._store.access) as cursor:
            return cursor.set_range(prefix) and next(_iter_entries(cursor, prefix), None) is not None

    def is_empty(self) -> bool:
        """Tell whether nobody has any rights, as far as rows can be told from entries. Raises DiskError."""
        with self._store.read() as txn:
            return int(txn.stat(self._store.access)["entries"]) == 0


def parse_rights(text: str) -> frozenset[Right]:
    """Return the rights that `text` names: some, a comma between them, or `all`.

    Raises:
        RightsError: one is unknown, or there is none.
    """
    if text.strip() == _ALL:
        return frozenset(Right)
    rights: set[Right] = set()
    for word in text.split(","):
        name = word.strip()
        try:
            rights.add(Right(name))
        except ValueError:
            why = f"unknown right '{shorten(name)}'" if name else "the name of a right is missing"
            raise RightsError(why) from None
    return frozenset(rights)


def show_rights(rights: Iterable[Right]) -> str:
    """Return the names of `rights`, in their usual order, a comma between them."""
    chosen = frozenset(rights)
    return ",".join(right for right in Right if right in chosen)


def parse_repository_path(text: str) -> tuple[bytes, ...]:
    """Return the components of a path behind the name, as somebody typed it: '/team/project' or 'team/project'.

    '' and '/' are the name itself, (). A slash at the end, as behind a remote's URL, means nothing.

    Raises:
        ArgumentError: no repository can be there.
    """
    return parse_typed(_parse_path, text)


def _parse_path(text: str) -> tuple[bytes, ...]:
    try:
        raw = (
            text.rstrip("/").removeprefix("/").encode("utf-8", "surrogateescape")
        )  # any bytes, as the shell passes them
    except UnicodeEncodeError:
        raise RepositoryPathError([text.encode("utf-8", "backslashreplace")], "that is not text") from None
    path = tuple(raw.split(b"/")) if raw else ()
    check_repository_path(path)
    return path


def check_repository_path(path: Sequence[bytes]) -> None:
    """Check components that came from elsewhere, as far as that needs no repository.

    Raises:
        RepositoryPathError: too many or too long, or one is empty, '.' or '..', or has a '/' or NUL in it.

    Spec: docs/protocols/push.md, "Bounds"
    """
    if len(path) > MAX_COMPONENTS:
        raise RepositoryPathError(path, f"it has more than {MAX_COMPONENTS} components")
    if sum(map(len, path)) > MAX_PATH:
        raise RepositoryPathError(path, f"it has more than {MAX_PATH} bytes")
    for name in path:
        if not name:
            raise RepositoryPathError(path, "a component is empty")
        if name in (b".", b".."):
            raise RepositoryPathError(path, f"'{name.decode()}' leads elsewhere")
        if b"/" in name or b"\0" in name:
            raise RepositoryPathError(path, "a component has a slash or NUL in it")


def show_repository_path(path: Sequence[bytes]) -> str:
    """Return a path for people: '/team/project', '/' for (). No two paths where repositories can be are written alike.

    Bytes that are not UTF-8 and characters that can't be seen or would drive a terminal are escaped, and so are
    backslashes, and slashes in a component.
    """
    return "/" + "/".join(_show(name) for name in path)


def _show(name: bytes) -> str:
    text = name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace").replace("/", r"\x2f")
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _encode_key(peer: PeerId, path: Sequence[bytes]) -> bytes:
    """Return the key of an entry. `path` is checked: no two of those have one key."""
    return _prefix(peer) + _SEPARATOR.join(path)


def _prefix(peer: PeerId) -> bytes:
    return bytes((len(peer.raw),)) + peer.raw


def _iter_entries(cursor: lmdb.Cursor, prefix: bytes = b"") -> Iterator[AccessEntry]:
    """Yield the entries from the cursor's position on whose keys begin with `prefix`."""
    for raw, row in cursor.iternext():
        key = bytes(raw)
        if not key.startswith(prefix):
            return
        try:
            peer, path = _decode_key(key)
        except DecodeError as exc:
            _warn(key, exc)
        else:
            if rights := _readable_rights(key, row):
                yield AccessEntry(peer, path, rights)


def _decode_key(key: bytes) -> tuple[PeerId, tuple[bytes, ...]]:
    end = 1 + key[0]
    peer = PeerId.decode(key[1:end])
    if len(peer.raw) != key[0]:
        raise DecodeError("it ends inside the peer id")
    path = tuple(key[end:].split(_SEPARATOR)) if key[end:] else ()
    check_repository_path(path)
    return peer, path


def _readable_rights(key: bytes, row: bytes | memoryview | None) -> frozenset[Right]:
    """Return the rights that a row gives: none, if there is no row or it is damaged."""
    if row is None:
        return frozenset()
    try:
        rights = parse_rights(bytes(row).decode("utf-8", "replace"))
        if show_rights(rights).encode() != row:
            raise RightsError("the rights are not written as they should be")
    except RightsError as exc:
        _warn(key, exc)
        return frozenset()
    return rights


def _warn(key: bytes, why: DecodeError) -> None:
    _log.warning("passed over a damaged entry of the access list, %s: %s", key.hex(), why)
