import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.node.identity import pkcs8
from ipvcs.node.identity.keys import KeyType
from ipvcs.node.identity.stored_key import (
    MAX_NAME,
    DamagedKeyError,
    KeyNameError,
    StoredKey,
    check_name,
    encode_file,
    file_of_name,
    is_encrypted_file,
    name_of_file,
)
from tests.unit.node.identity.key_pool import KEYS, ed25519_key

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=MAX_NAME // 4)


@pytest.fixture(autouse=True)
def _cheap(cheap_scrypt: None) -> None:
    """Do not wait for the passphrases."""


@given(NAMES)
def test_every_name_has_a_file_name_that_is_safe_and_leads_back(name: str) -> None:
    check_name(name)
    file = file_of_name(name)
    assert file.isascii()
    assert set(file) <= set("key_abcdefghijklmnopqrstuvwxyz234567")
    assert len(file) < 255 - len(".new")
    assert name_of_file(file) == name


@pytest.mark.parametrize(("name", "file"), [("self", "key_onswyzq"), ("foo", "key_mzxw6"), ("../x", "key_fyxc66a")])
def test_file_names_are_kubos(name: str, file: str) -> None:
    """Lower-case base32 without padding, as `ls $IPFS_PATH/keystore` shows them."""
    assert file_of_name(name) == file
    assert base64.b32decode(file[4:].upper() + "=" * (-len(file[4:]) % 8)).decode() == name


@pytest.mark.parametrize(
    "file", ["key_", "key_MZXW6", "key_mzxw6.new", "key_mzxw7", "key_a", "mzxw6", "key_74", "key_bi"]
)
def test_other_files_are_no_keys(file: str) -> None:
    """Upper case, suffixes, stray bits, half bytes, not UTF-8, a control character."""
    assert name_of_file(file) is None


@pytest.mark.parametrize(
    "name", ["", "x" * (MAX_NAME + 1), "ü" * (MAX_NAME // 2 + 1), "a\nb", "\0", "\u2028", "\udcff"]
)
def test_names_that_no_line_or_file_could_hold_are_refused(name: str) -> None:
    with pytest.raises(KeyNameError) as caught:
        check_name(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["x" * MAX_NAME, "a/b", "..", "-f", " ", "鍵", "👩‍🔬", "k51x", "ключ\u3000два"])
def test_any_other_name_will_do(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("kind", KeyType)
@pytest.mark.parametrize("passphrase", [None, b"secret"])
def test_a_file_tells_the_public_key_to_everyone_and_the_private_one_to_the_passphrase(
    kind: KeyType, passphrase: bytes | None
) -> None:
    content = encode_file(KEYS[kind], passphrase)

    stored = StoredKey.decode("name", content)

    assert stored.public_key == KEYS[kind].public_key
    assert stored.is_encrypted is is_encrypted_file(content) is (passphrase is not None)
    assert stored.unseal(passphrase or b"not needed").encode() == KEYS[kind].encode()
    if passphrase:
        with pytest.raises(pkcs8.WrongPassphraseError, match="'name'"):
            stored.unseal(b"wrong")
        with pytest.raises(DamagedKeyError, match="is encrypted"):
            stored.unseal(None)
    assert str(stored.sealed) not in repr(stored)


def test_a_private_key_beside_another_public_key_is_found_out() -> None:
    content = pkcs8.encode_public(ed25519_key(1).public_key) + pkcs8.encode_private(ed25519_key(2))
    with pytest.raises(DamagedKeyError, match="not of one key"):
        StoredKey.decode("name", content).unseal(None)


@given(st.data())
def test_a_damaged_file_never_gives_another_key(data: st.DataObject) -> None:
    content = bytearray(encode_file(ed25519_key(1), data.draw(st.sampled_from([None, b"secret"]))))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(len(content) // 2, len(content))) :]
    try:
        key = StoredKey.decode("name", bytes(content)).unseal(b"secret")
    except (DamagedKeyError, pkcs8.WrongPassphraseError):
        return
    assert key.encode() == ed25519_key(1).encode()  # what changed was beside the key


@pytest.mark.parametrize("content", [b"", b"\0" * 500, pkcs8.encode_public(ed25519_key(1).public_key)])
def test_a_file_without_both_keys_is_damaged_and_the_hint_names_it(content: bytes) -> None:
    with pytest.raises(DamagedKeyError) as caught:
        StoredKey.decode("foo", content)
    assert "key_mzxw6" in (caught.value.hint or "")
