"""The keys of a home, by name: the node's own, `self`, and those of the names that it publishes.

    keystore/           0700
      key_<base32>      0600: the key of the name; PEM, the public key in clear and then the private one as PKCS#8
      key_<base32>.new  while the passphrase is changed: the same key, encrypted with the new one
      changed           every `.new` file is whole, and takes the place of the other one

File names are those of Kubo's keystore, so any name will do that fits. All keys are in clear or all are encrypted with
one passphrase. The public keys never are: listing keys and telling one's own id needs no passphrase.

Any number of processes use a keystore at once: what reads or writes its files holds the lock on the directory, and
nobody is asked for a passphrase meanwhile. Each change is one rename or one removal; an interrupted change of the
passphrase is undone or finished by the next process that looks.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ipvcs.errors import ConflictError, NotFoundError
from ipvcs.node.identity import pkcs8
from ipvcs.node.identity.keys import PrivateKey, PublicKey, generate_key
from ipvcs.node.identity.stored_key import (
    KeyNameError,
    StoredKey,
    check_name,
    encode_file,
    file_of_name,
    is_encrypted_file,
    name_of_file,
)
from ipvcs.storage.disk import disk_errors, locked_directory, sync_directory, write_atomically

SELF: Final = "self"
"""The name of the node's own key."""
_NEW: Final = ".new"
_CHANGED: Final = "changed"
_MAX_FILE: Final = 64 * 1024
"""Bytes: an RSA key of 8192 bits takes 8 KiB."""

_Witness = tuple[str, bytes]
"""Name and file of a key that tells whether the keys are encrypted, and with which passphrase."""


class ReservedKeyError(ConflictError):
    """The node's own key stays, under its own name."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"cannot {what}: it is the node's own key",
            hint="`ipvcs key gen NAME` makes other keys; a home of its own has an id of its own",
        )


class KeyNotFoundError(NotFoundError):
    """No key has that name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"no key is named '{name}'", hint="`ipvcs key list` shows the names, `ipvcs key gen` makes keys"
        )
        self.name = name


class KeyExistsError(ConflictError):
    """A key has that name already."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"a key named '{name}' already exists", hint="choose another name, or rename or remove that key"
        )
        self.name = name


class Keystore:
    """The directory of a home's keys.

    Args:
        directory: made, when the first key is, in a directory that is there.
        passphrase: called for the passphrase, when it is needed.
        first_passphrase: called when the very first key is made: its passphrase, or None to keep keys in clear.
    """

    def __init__(
        self, directory: Path, passphrase: Callable[[], bytes], first_passphrase: Callable[[], bytes | None]
    ) -> None:
        self._directory = directory
        self._ask = passphrase
        self._first = first_passphrase
        self._known: bytes | None = None
        """The passphrase that opened a key, so that nobody types it twice."""

    def names(self) -> list[str]:
        """Return the name of every key: the node's own first, then in alphabetical order."""
        with self._locked():
            return self._names()

    def find(self, name: str) -> StoredKey:
        """Return what is known of a key without the passphrase.

        Raises:
            KeyNotFoundError, DamagedKeyError.
        """
        with self._locked():
            return self._read(name)

    def get(self, name: str) -> PrivateKey:
        """Return the key with that name.

        Raises:
            KeyNotFoundError, DamagedKeyError.
            WrongPassphraseError: it is encrypted, and the passphrase given is not its.
        """
        return self._open(self.find(name))

    def node_key(self) -> PrivateKey:
        """Return the node's own key, made now if there is none; processes that do so at once get the same one."""
        self._make_node_key()
        return self.get(SELF)

    def node_public_key(self) -> PublicKey:
        """Return the public half of the node's own key, made now if there is none. Needs no passphrase once it is."""
        self._make_node_key()
        return self.find(SELF).public_key

    def unlock(self) -> None:
        """Ask for the passphrase now, if the keys are encrypted: later it is not asked for again.

        Raises:
            WrongPassphraseError, DamagedKeyError: as `get`.
        """
        self._protection()

    def prepare(self, name: str) -> None:
        """Raise what `put` would raise, before the key is made, which may take long."""
        check_name(name)
        if name in self.names():
            raise KeyExistsError(name)
        self.unlock()

    def put(self, name: str, key: PrivateKey) -> None:
        """Store `key` under a name that no other has, encrypted if the others are.

        Raises:
            KeyNameError: no key can be named so.
            KeyExistsError: the name is taken.
            WrongPassphraseError: the other keys are encrypted with another passphrase.
        """
        check_name(name)
        while True:
            witness, passphrase = self._protection()
            content = encode_file(key, passphrase)
            with self._locked(make=True):
                if self._path(name).exists():
                    raise KeyExistsError(name)
                if self._witness() == witness:  # else the passphrase was changed, or the first key made, meanwhile
                    self._remove_leftovers()
                    write_atomically(self._path(name), content)
                    break
        self._known = passphrase

    def rename(self, old: str, new: str, *, force: bool = False) -> tuple[StoredKey, bool]:
        """Give a key another name. With `force` the key that has the name is lost for ever.

        Returns:
            (the key, whether another one was lost).

        Raises:
            KeyNameError, KeyNotFoundError, DamagedKeyError.
            ReservedKeyError: either is the node's own key.
            KeyExistsError: the name is taken, and `force` is not set.
        """
        check_name(new)
        if old == SELF:
            raise ReservedKeyError(f"rename '{SELF}'")
        if new == SELF:
            raise ReservedKeyError(f"rename a key to '{SELF}'")
        with self._locked():
            key = self._read(old)
            source, target = self._path(old), self._path(new)
            lost = source != target and target.exists()
            if lost and not force:
                raise KeyExistsError(new)
            source.replace(target)
            sync_directory(self._directory)
        return key, lost

    def remove(self, names: Iterable[str]) -> None:
        """Remove keys for ever: all of them or, if a name is not there, none.

        Raises:
            KeyNotFoundError: one is not there.
            ReservedKeyError: one is the node's own.
        """
        wanted = list(dict.fromkeys(names))
        if SELF in wanted:
            raise ReservedKeyError(f"remove '{SELF}'")
        with self._locked():
            there = set(self._names())
            if missing := [name for name in wanted if name not in there]:
                raise KeyNotFoundError(missing[0])
            paths = [self._path(name) for name in wanted]
            for path in paths:
                path.unlink()
            if paths:
                self._remove_leftovers()  # which may be of these keys
                sync_directory(self._directory)

    @property
    def is_encrypted(self) -> bool:
        """Whether the keys are; not, if there are none."""
        with self._locked():
            witness = self._witness()
        return witness is not None and is_encrypted_file(witness[1])

    def change_passphrase(self, passphrase: bytes | None) -> int:
        """Encrypt every key with `passphrase`, or keep them in clear from now on if it is None.

        Killed at any instant, all keys are still encrypted with the old passphrase, or all with the new one.

        Returns:
            How many keys there are.

        Raises:
            WrongPassphraseError: the present one is needed, and another was given.
            DamagedKeyError: a key can't be read; nothing has been changed.
        """
        if passphrase is not None:
            pkcs8.check_passphrase(passphrase)
        self._make_node_key()  # a home with a passphrase has something to check it against
        while True:
            witness, _ = self._protection()
            with self._locked():
                if self._witness() != witness:
                    continue
                names = self._names()
                keys = [self._read(name).unseal(self._known) for name in names]
                self._remove_leftovers()
                for name, key in zip(names, keys, strict=True):
                    write_atomically(self._new_path(name), encode_file(key, passphrase))
                write_atomically(self._directory / _CHANGED, b"")
                self._finish_change()
            self._known = passphrase
            return len(names)

    def _make_node_key(self) -> None:
        with self._locked():
            if self._path(SELF).exists():
                return
        try:
            self.put(SELF, generate_key())
        except KeyExistsError:  # another process was faster
            return

    def _open(self, stored: StoredKey) -> PrivateKey:
        """Return the private key, asking for the passphrase if it must be."""
        if not stored.is_encrypted:
            return stored.unseal(None)
        if self._known is not None:
            try:
                return stored.unseal(self._known)
            except pkcs8.WrongPassphraseError:  # another process changed it: ask for the new one
                self._known = None
        passphrase = self._ask()
        key = stored.unseal(passphrase)
        self._known = passphrase
        return key

    def _protection(self) -> tuple[_Witness | None, bytes | None]:
        """Return the present `_witness` and the passphrase that new keys get, which has been checked against it."""
        with self._locked():
            witness = self._witness()
        if witness is None:
            return None, self._first()
        stored = StoredKey.decode(*witness)
        if not stored.is_encrypted:
            return witness, None
        self._open(stored)
        return witness, self._known

    def _witness(self) -> _Witness | None:
        """Return the key by which a passphrase is checked: an encrypted one, if there is one. None if there is none."""
        found = None
        for name in self._names():
            content = self._read_file(name)
            if is_encrypted_file(content):
                return name, content
            found = found or (name, content)
        return found

    def _names(self) -> list[str]:
        if not self._directory.is_dir():
            return []
        names = (name_of_file(entry.name) for entry in self._directory.iterdir())
        return sorted((name for name in names if name is not None), key=lambda name: (name != SELF, name))

    def _read(self, name: str) -> StoredKey:
        return StoredKey.decode(name, self._read_file(name))

    def _read_file(self, name: str) -> bytes:
        try:
            check_name(name)
            with self._path(name).open("rb") as file:
                return file.read(_MAX_FILE)
        except (KeyNameError, FileNotFoundError):
            raise KeyNotFoundError(name) from None

    def _path(self, name: str) -> Path:
        return self._directory / file_of_name(name)

    def _new_path(self, name: str) -> Path:
        path = self._path(name)
        return path.with_name(path.name + _NEW)

    @contextmanager
    def _locked(self, *, make: bool = False) -> Iterator[None]:
        """Keep other processes out, after whatever change they could not finish is finished or forgotten.

        Without `make`, a directory that is not there is taken for an empty one.
        """
        with disk_errors(self._directory):
            if not self._directory.exists():
                if not make:
                    yield
                    return
                self._directory.mkdir(mode=0o700, exist_ok=True)
                sync_directory(self._directory.parent)
            with locked_directory(self._directory):
                if (self._directory / _CHANGED).exists():
                    self._finish_change()
                yield

    def _finish_change(self) -> None:
        """Put the re-encrypted keys in the others' places. Done again, it goes on where it was interrupted."""
        for path in list(self._directory.glob(f"key_*{_NEW}")):
            path.replace(path.with_name(path.name.removesuffix(_NEW)))
        sync_directory(self._directory)
        (self._directory / _CHANGED).unlink()
        sync_directory(self._directory)

    def _remove_leftovers(self) -> None:
        """Remove what a killed process left: files cut short, and keys encrypted with a passphrase never adopted."""
        for pattern in (".*.part", f"key_*{_NEW}"):
            for path in list(self._directory.glob(pattern)):
                path.unlink()
