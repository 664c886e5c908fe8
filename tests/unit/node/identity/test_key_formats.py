import base64
import json
from typing import NoReturn

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import UsageError
from ipvcs.node.identity.key_formats import (
    MAX_KEY_FILE,
    KeyFormat,
    KeyFormatError,
    detect,
    export_key,
    import_key,
)
from ipvcs.node.identity.keys import InvalidKeyError, KeyType
from ipvcs.node.identity.pkcs8 import WrongPassphraseError
from tests.unit.node.identity.key_pool import KEYS, VECTORS, ed25519_key

KEY = ed25519_key(7)
FOREIGN = KEYS[KeyType.RSA].handle


@pytest.fixture(autouse=True)
def _cheap(cheap_scrypt: None) -> None:
    """Do not wait for the passphrases."""


def never() -> NoReturn:
    pytest.fail("nobody needs a passphrase here")


@pytest.mark.parametrize("kind", KeyType)
@pytest.mark.parametrize("key_format", KeyFormat)
@pytest.mark.parametrize("named", [True, False])
def test_an_exported_key_is_imported_again(kind: KeyType, key_format: KeyFormat, named: bool) -> None:
    encrypted = key_format is KeyFormat.PEM_ENCRYPTED
    data = export_key(KEYS[kind], key_format, b"secret" if encrypted else None)

    assert detect(data) is key_format
    found = import_key(data, key_format if named else None, (lambda: b"secret") if encrypted else never)
    assert found.encode() == KEYS[kind].encode()


def test_kubos_formats_are_the_message_and_pkcs8_in_pem() -> None:
    assert export_key(KEY, KeyFormat.LIBP2P) == KEY.encode()
    pem = KEY.handle.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert export_key(KEY, KeyFormat.PEM) == pem


def test_the_encrypted_format_needs_a_passphrase() -> None:
    with pytest.raises(UsageError, match="passphrase is empty"):
        export_key(KEY, KeyFormat.PEM_ENCRYPTED)
    with pytest.raises(WrongPassphraseError):
        import_key(export_key(KEY, KeyFormat.PEM_ENCRYPTED, b"right"), None, lambda: b"wrong")


@pytest.mark.parametrize("named", list(KeyFormat))
@pytest.mark.parametrize("actual", list(KeyFormat))
def test_a_file_in_another_format_is_refused_with_the_right_one_in_the_hint(
    named: KeyFormat, actual: KeyFormat
) -> None:
    if named is actual:
        return
    data = export_key(KEY, actual, b"secret")
    with pytest.raises(KeyFormatError, match=named) as caught:
        import_key(data, named, never)
    wanted = "leave --format out" if actual is KeyFormat.LIBP2P else f"--format={actual}"
    assert wanted in (caught.value.hint or "")


def test_the_text_of_a_kubo_config_is_imported() -> None:
    vector = json.loads((VECTORS / "js_go_private_key.json").read_text())
    wrapped = "\n".join(vector["privKey"][start : start + 76] for start in range(0, len(vector["privKey"]), 76))

    for text in (vector["privKey"], vector["privKey"] + "\n", wrapped):
        assert str(import_key(text.encode(), None, never).peer_id) == vector["id"]
    with pytest.raises(KeyFormatError):
        import_key(vector["privKey"].encode(), KeyFormat.LIBP2P, never)


def test_a_pem_file_may_say_more_than_the_key() -> None:
    public = KEY.public_key.handle.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    data = b"my key\n" + public + export_key(KEY, KeyFormat.PEM).replace(b"\n", b"\r\n") + b"the end"
    assert import_key(data, None, never) == KEY


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b"", "empty", "key export"),
        (b" \n", "empty", "key export"),
        (bytes(MAX_KEY_FILE + 1), "over 64 KiB", "own file"),
        (b"hello world", "no private key", "PKCS#8"),
        (b'{"Identity": {}}', "no private key", "Identity.PrivKey"),
        (FOREIGN.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), "no private key", "-inform DER"),
        (
            FOREIGN.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
            "RSA PRIVATE KEY",
            "openssl pkcs8",
        ),
        (KEY.handle.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), "OpenSSH", "ssh-keygen"),
        (
            KEY.public_key.handle.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "public key",
            "private half",
        ),
        (b"-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n", "CERTIFICATE", "another file"),
        (export_key(KEY, KeyFormat.PEM)[:-30], "no end", "again, whole"),
        (KEY.public_key.encode(), "has 32 bytes instead of 64", None),
        (b"\x08\x00\x12\x03abc", "RSA private key is malformed", None),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else None,
)
def test_what_is_no_key_is_refused_with_a_way_out(data: bytes, message: str, hint: str | None) -> None:
    with pytest.raises(InvalidKeyError, match=message) as caught:
        import_key(data, None, never)
    assert (hint or "") in (caught.value.hint or "")


@given(st.binary(max_size=200), st.sampled_from([None, *KeyFormat]))
def test_garbage_raises_our_errors_alone(garbage: bytes, key_format: KeyFormat | None) -> None:
    pem = b"-----BEGIN PRIVATE KEY-----\n" + base64.b64encode(garbage) + b"\n-----END PRIVATE KEY-----"
    for data in (garbage, base64.b64encode(garbage), pem, b"-----BEGIN " + garbage):
        with pytest.raises(InvalidKeyError):
            import_key(data, key_format, lambda: b"secret")
