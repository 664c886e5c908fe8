import pytest
from cryptography.hazmat.primitives.asymmetric import ed448, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError, UsageError
from ipvcs.node.identity import pkcs8
from ipvcs.node.identity.keys import InvalidKeyError, KeyType, PrivateKey
from ipvcs.node.identity.pkcs8 import WrongPassphraseError
from tests.unit.node.identity.key_pool import KEYS, VECTORS, ed25519_key

OPENSSL = VECTORS / "openssl"


@pytest.fixture(autouse=True)
def _cheap(cheap_scrypt: None) -> None:
    """Do not wait for the passphrases."""


def only_block(text: bytes) -> tuple[str, bytes]:
    [block] = pkcs8.decode_pem(text)
    return block


def clear_key() -> PrivateKey:
    return pkcs8.decode_private(only_block((OPENSSL / "clear.pem").read_bytes())[1])


@pytest.mark.parametrize("file", ["scrypt.pem", "pbkdf2.pem"])
def test_what_openssl_encrypted_is_read(file: str) -> None:
    label, content = only_block((OPENSSL / file).read_bytes())

    assert label == pkcs8.ENCRYPTED
    assert pkcs8.decode_private(content, b"y") == clear_key()
    with pytest.raises(WrongPassphraseError):
        pkcs8.decode_private(content, b"z")


def test_a_key_in_clear_is_written_as_openssl_writes_it() -> None:
    assert pkcs8.encode_private(clear_key()) == (OPENSSL / "clear.pem").read_bytes()


@pytest.mark.parametrize("kind", KeyType)
def test_every_kind_of_key_comes_back_in_clear_and_encrypted(kind: KeyType) -> None:
    key = KEYS[kind]
    for passphrase in (None, b"\xff secret"):
        label, content = only_block(pkcs8.encode_private(key, passphrase))
        assert label == (pkcs8.ENCRYPTED if passphrase else pkcs8.PRIVATE)
        assert pkcs8.decode_private(content, passphrase).encode() == key.encode()
    label, content = only_block(pkcs8.encode_public(key.public_key))
    assert (label, pkcs8.decode_public(content)) == (pkcs8.PUBLIC, key.public_key)


@pytest.mark.parametrize("kind", KeyType)
def test_what_we_encrypt_is_what_others_read(kind: KeyType) -> None:
    key = KEYS[kind]
    loaded = load_pem_private_key(pkcs8.encode_private(key, b"secret"), b"secret")
    assert PrivateKey(loaded) == key
    assert load_pem_public_key(pkcs8.encode_public(key.public_key)) == key.public_key.handle


@given(st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=64))
def test_any_passphrase_opens_what_it_closed_and_no_other_does(right: bytes, wrong: bytes) -> None:
    key = ed25519_key(5)
    _, content = only_block(pkcs8.encode_private(key, right))
    assert pkcs8.decode_private(content, right) == key
    if wrong != right:
        with pytest.raises(WrongPassphraseError):
            pkcs8.decode_private(content, wrong)


def test_a_wrong_passphrase_is_told_even_when_the_padding_happens_to_be_good() -> None:
    """One in 256 is: then what comes out is nonsense, which is not the file's fault."""
    _, content = only_block(pkcs8.encode_private(ed25519_key(5), b"right"))
    for number in range(1500):
        with pytest.raises(WrongPassphraseError):
            pkcs8.decode_private(content, b"wrong %d" % number)


def test_two_encryptions_of_one_key_have_nothing_in_common() -> None:
    first, second = (only_block(pkcs8.encode_private(ed25519_key(5), b"secret"))[1] for _ in range(2))
    assert first[-64:] != second[-64:]
    assert ed25519_key(5).encode()[4:36] not in first


def test_a_passphrase_for_a_key_in_clear_and_none_for_an_encrypted_one_are_errors() -> None:
    clear, closed = (only_block(pkcs8.encode_private(ed25519_key(5), each))[1] for each in (None, b"secret"))
    with pytest.raises(InvalidKeyError, match="not encrypted"):
        pkcs8.decode_private(clear, b"secret")
    with pytest.raises(InvalidKeyError, match="is encrypted"):
        pkcs8.decode_private(closed)
    with pytest.raises(WrongPassphraseError):
        pkcs8.decode_private(closed, b"")


@pytest.mark.parametrize("passphrase", [b"", b"x" * 1024])
def test_passphrases_that_other_programs_refuse_are_not_used(passphrase: bytes) -> None:
    with pytest.raises(UsageError):
        pkcs8.encode_private(ed25519_key(5), passphrase)


def test_the_longest_passphrase_works() -> None:
    longest = b"x" * pkcs8.MAX_PASSPHRASE
    assert load_pem_private_key(pkcs8.encode_private(ed25519_key(5), longest), longest)


def test_keys_that_no_peer_has_are_refused() -> None:
    for handle in (ed448.Ed448PrivateKey.generate(), x25519.X25519PrivateKey.generate()):
        data = handle.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        with pytest.raises(InvalidKeyError, match="neither Ed25519"):
            pkcs8.decode_private(data)


@given(st.binary(max_size=300))
def test_garbage_is_refused_as_such(garbage: bytes) -> None:
    with pytest.raises(InvalidKeyError):
        pkcs8.decode_private(garbage)
    with pytest.raises(InvalidKeyError):
        pkcs8.decode_public(garbage)
    with pytest.raises(DecodeError):
        pkcs8.decode_pem(b"-----BEGIN X-----\n!" + garbage + b"-----END X-----")


@given(st.lists(st.tuples(st.sampled_from(["A", "PUBLIC KEY"]), st.binary(max_size=200)), max_size=4), st.booleans())
def test_pem_blocks_come_back_with_any_text_between(blocks: list[tuple[str, bytes]], windows: bool) -> None:
    text = b"note\n".join(pkcs8.encode_pem(label, content) for label, content in blocks)
    assert pkcs8.decode_pem(text.replace(b"\n", b"\r\n") if windows else text) == blocks


def test_pem_lines_have_64_characters() -> None:
    lines = pkcs8.encode_pem("A", bytes(100)).splitlines()
    assert [len(line) for line in lines[1:-1]] == [64, 64, 8]
