"""The keys that a node publishes with, as far as they can be opened."""

from pathlib import Path

import pytest

from ipvcs.errors import UnavailableError
from ipvcs.node.identity.keys import generate_key
from ipvcs.node.identity.keystore import KeyNotFoundError, Keystore
from ipvcs.node.naming.own_keys import KeystoreKeys

NODE = generate_key()
WORK = generate_key()


class NobodyToAskError(UnavailableError):
    pass


def nobody() -> bytes:
    raise NobodyToAskError("nobody to ask for the passphrase")


def keystore(tmp_path: Path, passphrase: bytes | None) -> Keystore:
    store = Keystore(tmp_path / "keystore", lambda: passphrase or b"", lambda: passphrase)
    store.put("self", NODE)
    store.put("work", WORK)
    return store


def test_keys_are_found_by_what_they_are_called_and_by_whose_they_are(tmp_path: Path) -> None:
    keys = KeystoreKeys(NODE, keystore(tmp_path, None))
    assert keys.names() == {"self": NODE.peer_id, "work": WORK.peer_id}
    assert keys.get("self") == keys.get(str(NODE.peer_id)) == keys.get(NODE.peer_id.to_base36()) == NODE
    assert keys.get("work") == keys.get(WORK.peer_id.to_base36()) == WORK
    assert (keys.find(NODE.peer_id), keys.find(WORK.peer_id)) == (NODE, WORK)


def test_what_is_not_ours_is_not_found(tmp_path: Path) -> None:
    keys = KeystoreKeys(NODE, keystore(tmp_path, None))
    stranger = generate_key().peer_id
    assert keys.find(stranger) is None
    for name in ("play", str(stranger), ""):
        with pytest.raises(KeyNotFoundError):
            keys.get(name)


def test_without_the_passphrase_names_are_known_and_the_nodes_own_key_is_there(tmp_path: Path) -> None:
    keystore(tmp_path, b"secret passphrase")
    keys = KeystoreKeys(NODE, Keystore(tmp_path / "keystore", nobody, lambda: None))
    assert keys.names() == {"self": NODE.peer_id, "work": WORK.peer_id}
    assert keys.get("self") == keys.find(NODE.peer_id) == NODE
    assert keys.find(WORK.peer_id) is None
    with pytest.raises(NobodyToAskError):
        keys.get("work")


def test_a_damaged_key_hides_no_other(tmp_path: Path) -> None:
    store = keystore(tmp_path, None)
    store.put("play", generate_key())
    (path,) = (each for each in (tmp_path / "keystore").iterdir() if each.name == "key_obwgc6i")
    path.write_bytes(b"rot")
    keys = KeystoreKeys(NODE, store)
    assert set(keys.names()) == {"self", "work"}
    assert keys.find(WORK.peer_id) == WORK
