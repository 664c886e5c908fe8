"""The keystore: names, passphrases, other processes at the same time, and death at any instant."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from ipvcs.errors import UsageError
from ipvcs.node.identity import keystore as keystore_module
from ipvcs.node.identity.keys import KeyType, PrivateKey
from ipvcs.node.identity.keystore import (
    KeyExistsError,
    KeyNotFoundError,
    Keystore,
    ReservedKeyError,
)
from ipvcs.node.identity.pkcs8 import WrongPassphraseError
from ipvcs.node.identity.stored_key import DamagedKeyError, KeyNameError, StoredKey, encode_file, file_of_name
from ipvcs.storage import disk
from tests.unit.node.identity.key_pool import KEYS, ed25519_key

A, B, C = (ed25519_key(number) for number in (1, 2, 3))


@pytest.fixture(autouse=True)
def _cheap(cheap_scrypt: None) -> None:
    """Do not wait for the passphrases."""


class Person:
    """Whoever types passphrases: `answers` are given in turn, the last one again and again."""

    def __init__(self, *answers: bytes, first: bytes | None = None) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.first = first

    def ask(self) -> bytes:
        self.asked += 1
        if not self.answers:
            pytest.fail("nobody should be asked for a passphrase")
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def open_store(tmp_path: Path, *answers: bytes, first: bytes | None = None) -> tuple[Keystore, Person]:
    person = Person(*answers, first=first)
    return Keystore(tmp_path / "keystore", person.ask, lambda: person.first), person


@pytest.fixture
def store(tmp_path: Path) -> Keystore:
    """A keystore in clear without keys, where nobody is to be asked."""
    return open_store(tmp_path)[0]


def encrypted_store(tmp_path: Path) -> Keystore:
    """A keystore with the keys `self`, `a` and `b` and the passphrase `old`, which is known to it."""
    store, _ = open_store(tmp_path, b"old", first=b"old")
    for name, key in (("self", C), ("a", A), ("b", B)):
        store.put(name, key)
    return store


def test_without_a_directory_there_are_no_keys_and_none_is_made(store: Keystore, tmp_path: Path) -> None:
    assert store.names() == []
    assert not store.is_encrypted
    with pytest.raises(KeyNotFoundError, match="'a'"):
        store.get("a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KeyType)
def test_a_stored_key_comes_back(store: Keystore, tmp_path: Path, kind: KeyType) -> None:
    store.put("x", KEYS[kind])
    assert open_store(tmp_path)[0].get("x").encode() == KEYS[kind].encode()
    assert store.find("x").public_key == KEYS[kind].public_key


def test_names_are_listed_with_the_nodes_own_first(store: Keystore) -> None:
    for name in ("zeta", "../up", "self", "Alpha", "鍵"):
        store.put(name, A)
    assert store.names() == ["self", "../up", "Alpha", "zeta", "鍵"]


def test_files_are_for_the_owner_alone(store: Keystore, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store.put("a", A)
    finally:
        os.umask(before)
    directory = tmp_path / "keystore"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()] == [0o600]


def test_a_name_is_given_once(store: Keystore) -> None:
    store.put("a", A)
    with pytest.raises(KeyExistsError, match="'a'"):
        store.put("a", B)
    with pytest.raises(KeyExistsError, match="'a'"):
        store.prepare("a")
    assert store.get("a") == A


def test_bad_names_are_refused_and_never_found(store: Keystore) -> None:
    store.put("a", A)
    for name in ("", "x" * 300, "a\n"):
        with pytest.raises(KeyNameError):
            store.put(name, A)
        with pytest.raises(KeyNameError):
            store.rename("a", name)
        with pytest.raises(KeyNotFoundError):
            store.find(name)
        with pytest.raises(KeyNotFoundError):
            store.get(name)
        with pytest.raises(KeyNotFoundError):
            store.remove([name])
        with pytest.raises(KeyNotFoundError):
            store.rename(name, "b")
    assert store.names() == ["a"]


def test_a_renamed_key_has_its_new_name_alone(store: Keystore) -> None:
    store.put("a", A)
    key, lost = store.rename("a", "b")
    assert (key.public_key, lost) == (A.public_key, False)
    assert store.names() == ["b"]
    assert store.get("b") == A


def test_a_rename_takes_another_keys_name_only_by_force(store: Keystore) -> None:
    store.put("a", A)
    store.put("b", B)
    with pytest.raises(KeyExistsError):
        store.rename("a", "b")
    assert (store.get("a"), store.get("b")) == (A, B)

    assert store.rename("a", "b", force=True)[1] is True
    assert store.names() == ["b"]
    assert store.get("b") == A


def test_a_key_renamed_to_its_own_name_stays(store: Keystore) -> None:
    store.put("a", A)
    assert store.rename("a", "a")[1] is False
    assert store.get("a") == A


def test_the_nodes_own_key_is_neither_renamed_nor_removed_nor_replaced(store: Keystore) -> None:
    store.put("self", A)
    store.put("b", B)
    for change in (
        lambda: store.rename("self", "x"),
        lambda: store.rename("b", "self", force=True),
        lambda: store.remove(["b", "self"]),
    ):
        with pytest.raises(ReservedKeyError, match="node's own key"):
            change()
    with pytest.raises(KeyExistsError):
        store.put("self", B)
    assert (store.get("self"), store.get("b")) == (A, B)


def test_all_keys_are_removed_or_none(store: Keystore) -> None:
    for name in ("a", "b", "c"):
        store.put(name, A)
    with pytest.raises(KeyNotFoundError, match="'nope'"):
        store.remove(["a", "nope", "b"])
    assert store.names() == ["a", "b", "c"]

    store.remove(["a", "c", "a"])
    assert store.names() == ["b"]


def test_other_files_in_the_directory_are_left_alone(store: Keystore, tmp_path: Path) -> None:
    store.put("a", A)
    stranger = tmp_path / "keystore" / "README"
    stranger.write_text("mine")
    store.put("b", B)
    store.change_passphrase(b"new")
    assert "a" in store.names()
    assert stranger.read_text() == "mine"


def test_a_damaged_key_is_named_and_can_still_be_removed(store: Keystore, tmp_path: Path) -> None:
    store.put("a", A)
    store.put("b", B)
    (tmp_path / "keystore" / file_of_name("b")).write_bytes(b"\0" * 400)
    for attempt in (store.find, store.get):
        with pytest.raises(DamagedKeyError, match="'b'"):
            attempt("b")
    assert store.get("a") == A
    store.remove(["b"])
    assert store.names() == ["a"]


def test_the_nodes_key_is_made_once(store: Keystore, tmp_path: Path) -> None:
    key = store.node_key()
    assert key.type is KeyType.ED25519
    assert store.node_key() == open_store(tmp_path)[0].node_key() == key
    assert store.node_public_key() == key.public_key
    assert store.names() == ["self"]


def test_a_node_key_made_by_another_process_meanwhile_is_the_one(
    store: Keystore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late() -> PrivateKey:
        open_store(tmp_path)[0].put("self", B)
        return A

    monkeypatch.setattr(keystore_module, "generate_key", too_late)
    assert store.node_key() == B


_MAKE_NODE_KEY = """
import sys
from pathlib import Path
from ipvcs.node.identity.keystore import Keystore
store = Keystore(Path(sys.argv[1]), lambda: b"", lambda: None)
print("ready", flush=True)
sys.stdin.readline()
print(store.node_key().peer_id)
"""


def test_processes_that_need_the_nodes_key_at_once_get_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _MAKE_NODE_KEY, str(tmp_path / "keystore")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ids = {process.communicate(timeout=60)[0] for process in processes}

    assert len(ids) == 1
    assert str(open_store(tmp_path)[0].node_key().peer_id) == ids.pop().strip()
    assert [path.name for path in (tmp_path / "keystore").iterdir()] == [file_of_name("self")]


def test_with_a_first_passphrase_no_secret_touches_the_disk_in_clear(tmp_path: Path) -> None:
    store, person = open_store(tmp_path, first=b"secret")
    key = store.node_key()
    store.put("a", A)

    assert store.is_encrypted
    for path in (tmp_path / "keystore").iterdir():
        assert b"-----BEGIN PRIVATE KEY-----" not in path.read_bytes()
    again, person = open_store(tmp_path, b"secret")
    assert again.node_public_key() == key.public_key
    assert again.names() == ["self", "a"]
    assert person.asked == 0  # so far, nothing secret was needed
    assert (again.node_key(), again.get("a")) == (key, A)
    assert person.asked == 1


def test_the_first_passphrase_is_for_the_first_key_alone(tmp_path: Path) -> None:
    open_store(tmp_path)[0].put("a", A)
    open_store(tmp_path, first=b"secret")[0].put("b", B)
    assert not open_store(tmp_path)[0].is_encrypted


def test_a_wrong_passphrase_is_a_clear_error_and_can_be_typed_again(tmp_path: Path) -> None:
    encrypted_store(tmp_path)
    store, person = open_store(tmp_path, b"wrong", b"old")
    with pytest.raises(WrongPassphraseError, match="wrong passphrase") as caught:
        store.get("a")
    assert caught.value.hint is not None
    assert store.get("a") == A
    assert person.asked == 2


def test_a_new_key_is_not_stored_with_a_mistyped_passphrase(tmp_path: Path) -> None:
    encrypted_store(tmp_path)
    store, _ = open_store(tmp_path, b"odl")
    with pytest.raises(WrongPassphraseError):
        store.put("c", C)
    with pytest.raises(WrongPassphraseError):
        store.prepare("c")
    with pytest.raises(WrongPassphraseError):
        store.unlock()
    assert store.names() == ["self", "a", "b"]


def test_a_key_is_encrypted_with_the_passphrase_that_is_there_when_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process changes the passphrase between our look at it and our lock."""
    store = encrypted_store(tmp_path)

    def change_first(key: PrivateKey, passphrase: bytes | None) -> bytes:
        monkeypatch.setattr(keystore_module, "encode_file", encode_file)
        open_store(tmp_path, b"old")[0].change_passphrase(b"new")
        return encode_file(key, passphrase)

    monkeypatch.setattr(keystore_module, "encode_file", change_first)
    store._ask = lambda: b"new"
    store.put("c", C)

    fresh, _ = open_store(tmp_path, b"new")
    assert fresh.get("c") == C


@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("after", [None, b"new"])
def test_a_passphrase_is_set_changed_and_taken_away(tmp_path: Path, before: bytes | None, after: bytes | None) -> None:
    store, _ = open_store(tmp_path, b"old", first=before)
    store.put("self", C)
    store.put("a", A)

    assert store.change_passphrase(after) == 2

    assert store.is_encrypted is (after is not None)
    assert (store.get("self"), store.get("a")) == (C, A)  # the same process need not ask again
    again, person = open_store(tmp_path, *([after] if after else []))
    assert (again.get("self"), again.get("a")) == (C, A)
    assert person.asked == (1 if after else 0)
    if after:
        with pytest.raises(WrongPassphraseError):
            open_store(tmp_path, b"old")[0].get("a")
    assert {path.name for path in (tmp_path / "keystore").iterdir()} == {file_of_name("self"), file_of_name("a")}


def test_changing_the_passphrase_needs_the_old_one(tmp_path: Path) -> None:
    encrypted_store(tmp_path)
    with pytest.raises(WrongPassphraseError):
        open_store(tmp_path, b"wrong")[0].change_passphrase(None)
    assert open_store(tmp_path)[0].is_encrypted


@pytest.mark.parametrize("passphrase", [b"", b"x" * 1024])
def test_a_passphrase_that_would_lock_others_out_is_refused(tmp_path: Path, passphrase: bytes) -> None:
    store = encrypted_store(tmp_path)
    with pytest.raises(UsageError):
        store.change_passphrase(passphrase)
    assert store.get("a") == A


def test_a_damaged_key_stops_the_change_before_anything_is_changed(tmp_path: Path) -> None:
    store = encrypted_store(tmp_path)
    (tmp_path / "keystore" / file_of_name("b")).write_bytes(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    with pytest.raises(DamagedKeyError, match="'b'"):
        store.change_passphrase(b"new")
    assert open_store(tmp_path, b"old")[0].get("a") == A


def test_a_key_in_clear_among_encrypted_ones_is_encrypted_with_them(tmp_path: Path) -> None:
    """As after a restore from an old backup."""
    open_store(tmp_path)[0].put("a", A)
    clear = (tmp_path / "keystore" / file_of_name("a")).read_bytes()
    store = open_store(tmp_path)[0]
    store.put("b", B)
    store.change_passphrase(b"old")
    (tmp_path / "keystore" / file_of_name("a")).write_bytes(clear)

    again, _ = open_store(tmp_path, b"old")
    again.put("c", C)
    assert again.find("c").is_encrypted
    again.change_passphrase(b"new")
    assert all(again.find(name).is_encrypted for name in again.names())
    assert open_store(tmp_path, b"new")[0].get("a") == A


class _Dead(BaseException):
    """The process was killed; nothing of it runs any more."""


DEADLY: Final[list[tuple[Any, str]]] = [(Path, "replace"), (Path, "unlink"), (os, "fsync"), (os, "open")]
"""What changes the disk, or is about to."""


class Death:
    """Kills the process at the `countdown`th change of the disk, before it is made: no later one is made either."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, countdown: int) -> None:
        self.left = countdown
        self._patch = monkeypatch
        for owner, name in DEADLY:
            self._watch(owner, name)

    def _watch(self, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def may_die(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise _Dead
            return real(*args, **kwargs)

        self._patch.setattr(owner, name, may_die)


def deaths(
    change: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, bool]]:
    """Run `change` in home after home, each time killed at a later instant, until it lives; yield (home, lived)."""
    for countdown in range(1000):
        home = tmp_path / str(countdown)
        home.mkdir()
        encrypted_store(home)
        with monkeypatch.context() as patch:
            death = Death(patch, countdown)
            try:
                change(home)
            except _Dead:
                lived = False
            else:
                lived = True
                assert death.left >= 0
        yield home, lived
        if lived:
            assert countdown > 3
            return
    pytest.fail("it never came to an end")


def all_keys(home: Path, passphrase: bytes) -> dict[str, PrivateKey]:
    store, _ = open_store(home, passphrase)
    return {name: store.get(name) for name in store.names()}


def test_killed_at_any_instant_a_change_of_passphrase_has_happened_or_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []

    def change(home: Path) -> None:
        open_store(home, b"old")[0].change_passphrase(b"new")

    for home, lived in deaths(change, tmp_path, monkeypatch):
        for name in ("self", "a", "b"):  # even before anyone repairs anything, every key is there
            StoredKey.decode(name, (home / "keystore" / file_of_name(name)).read_bytes())
        try:
            found = all_keys(home, b"old")
            passphrase = b"old"
        except WrongPassphraseError:
            found = all_keys(home, b"new")
            passphrase = b"new"
        assert found == {"self": C, "a": A, "b": B}
        open_store(home, passphrase)[0].put("c", C)  # and life goes on
        files = {path.name for path in (home / "keystore").iterdir()}
        assert files == {file_of_name(name) for name in ("self", "a", "b", "c")}
        outcomes.append(passphrase)
        assert passphrase == b"new" or not lived
    assert outcomes == sorted(outcomes, reverse=True)  # the old one up to the instant of change, the new one from it on
    assert outcomes[0] == b"old"
    assert outcomes.count(b"new") > 3


def test_a_repair_that_is_killed_is_repaired_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(_store: Keystore) -> None:
        raise _Dead

    def repair(home: Path) -> None:
        with monkeypatch.context() as patch:  # leave something to repair, safe from death
            for owner, name, real in alive:
                patch.setattr(owner, name, real)
            patch.setattr(Keystore, "_finish_change", die)
            with pytest.raises(_Dead):
                open_store(home, b"old")[0].change_passphrase(b"new")
        assert (home / "keystore" / "changed").exists()
        open_store(home, b"new")[0].get("a")

    alive = [(owner, name, getattr(owner, name)) for owner, name in DEADLY]
    for home, _lived in deaths(repair, tmp_path, monkeypatch):
        assert all_keys(home, b"new") == {"self": C, "a": A, "b": B}
        assert len(list((home / "keystore").iterdir())) == 3


@pytest.mark.parametrize("change", ["rename", "overwrite", "remove", "put"])
def test_killed_at_any_instant_other_changes_have_happened_or_have_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    changes: dict[str, tuple[Callable[[Keystore], object], dict[str, PrivateKey]]] = {
        "rename": (lambda store: store.rename("a", "z"), {"self": C, "b": B, "z": A}),
        "overwrite": (lambda store: store.rename("a", "b", force=True), {"self": C, "b": A}),
        "remove": (lambda store: store.remove(["a"]), {"self": C, "b": B}),
        "put": (lambda store: store.put("z", C), {"self": C, "a": A, "b": B, "z": C}),
    }
    action, changed = changes[change]
    unchanged = {"self": C, "a": A, "b": B}

    def run(home: Path) -> None:
        action(open_store(home, b"old")[0])

    found = []
    for home, lived in deaths(run, tmp_path, monkeypatch):
        found.append(all_keys(home, b"old"))
        assert found[-1] in (unchanged, changed)
        assert found[-1] == changed or not lived
    assert found[0] == unchanged


def test_a_full_disk_is_reported_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = encrypted_store(tmp_path)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(disk.DiskFullError):
            store.put("c", C)
        with pytest.raises(disk.DiskFullError):
            open_store(tmp_path, b"old")[0].change_passphrase(b"new")
    assert [open_store(tmp_path, b"old")[0].get(name) for name in store.names()] == [C, A, B]
