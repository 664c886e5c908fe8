"""Keys as PKCS#8 in PEM, in clear or encrypted with a passphrase: what OpenSSL and Go read, and what we keep on disk.

The libraries at hand encrypt PKCS#8 with 2,048 rounds of PBKDF2, which a graphics card tries millions of times a
second. So we write the encrypted form ourselves, with scrypt; `openssl pkey` reads it all the same.

Spec: RFC 5958 (PKCS#8), RFC 8018 (PBES2), RFC 7914 section 7 (scrypt in PBES2), RFC 7468 (PEM)
"""

import base64
import re
import secrets
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from ipvcs.errors import IpvcsError, UsageError
from ipvcs.node.identity.keys import InvalidKeyError, PrivateKey, PublicKey, public_key_of

PRIVATE: Final = "PRIVATE KEY"
ENCRYPTED: Final = "ENCRYPTED PRIVATE KEY"
PUBLIC: Final = "PUBLIC KEY"

MAX_PASSPHRASE: Final = 1023
"""Bytes, OpenSSL's bound."""

SCRYPT_N: Final = 2**14
SCRYPT_R: Final = 8
SCRYPT_P: Final = 5
"""OWASP's parameters with the most memory (16 MiB) that `openssl` reads without being asked: its bound is 32 MiB. A
quarter of a second on one core."""
_SALT: Final = 16
_BLOCK: Final = 16
_KEY: Final = 32

_OID_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")  # 1.2.840.113549.1.5.13
_OID_SCRYPT: Final = bytes.fromhex("06092b06010401da47040b")  # 1.3.6.1.4.1.11591.4.11
_OID_AES256_CBC: Final = bytes.fromhex("060960864801650304012a")  # 2.16.840.1.101.3.4.1.42
_INTEGER: Final = 0x02
_OCTET_STRING: Final = 0x04
_SEQUENCE: Final = 0x30

_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----[ \t]*\r?\n(.*?)-----END \1-----", re.DOTALL)
_LINE: Final = 64  # characters: "parsers … generators MUST wrap" at exactly that


class WrongPassphraseError(IpvcsError):
    """The passphrase is not the one that the key was encrypted with, or the file was changed since."""

    def __init__(self, subject: str = "the key") -> None:
        super().__init__(
            f"wrong passphrase for {subject}",
            hint="try again; if the passphrase is right, the file is damaged: restore it from a backup",
        )


def check_passphrase(passphrase: bytes) -> None:
    """Raise UsageError for a passphrase that is empty or longer than other programs take."""
    if not passphrase:
        raise UsageError("passphrase is empty")
    if len(passphrase) > MAX_PASSPHRASE:
        raise UsageError(f"passphrase is longer than {MAX_PASSPHRASE} bytes", hint="choose a shorter one")


def encode_private(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """Return `key` as one PEM block, encrypted unless `passphrase` is None. Raises UsageError for a bad passphrase."""
    plain = key.handle.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    if passphrase is None:
        return encode_pem(PRIVATE, plain)
    check_passphrase(passphrase)
    return encode_pem(ENCRYPTED, _encrypt(plain, passphrase))


def decode_private(data: bytes, passphrase: bytes | None = None) -> PrivateKey:
    """Return the key that `data`, PKCS#8 in DER, is: an EncryptedPrivateKeyInfo if there is a passphrase.

    Raises:
        WrongPassphraseError: `passphrase` does not open it.
        InvalidKeyError: not PKCS#8, encrypted without `passphrase` given, or not a key that peers know.
    """
    if passphrase == b"":  # which the library takes for none
        raise WrongPassphraseError
    try:
        loaded = load_der_private_key(data, passphrase)
    except TypeError as exc:
        state = "encrypted" if passphrase is None else "not encrypted"
        raise InvalidKeyError(f"private key is {state}") from exc
    except UnsupportedAlgorithm as exc:
        raise InvalidKeyError("private key is of a kind, or encrypted in a way, that cannot be read") from exc
    except ValueError as exc:
        if passphrase is not None:  # one wrong passphrase in 256 gives good padding and then nonsense
            raise WrongPassphraseError from exc
        raise InvalidKeyError("private key is not PKCS#8") from exc
    return PrivateKey(loaded)


def encode_public(key: PublicKey) -> bytes:
    """Return `key` as one PEM block, a SubjectPublicKeyInfo."""
    return encode_pem(PUBLIC, key.handle.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def decode_public(data: bytes) -> PublicKey:
    """Return the key that `data`, a SubjectPublicKeyInfo in DER, is. Raises InvalidKeyError."""
    try:
        loaded = load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise InvalidKeyError("public key is malformed, or of a kind that cannot be read") from exc
    return public_key_of(loaded)


def encode_pem(label: str, data: bytes) -> bytes:
    """Return `data` as a PEM block."""
    text = base64.b64encode(data)
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return b"\n".join([b"-----BEGIN %b-----" % label.encode(), *lines, b"-----END %b-----" % label.encode(), b""])


def decode_pem(text: bytes) -> list[tuple[str, bytes]]:
    """Return (label, content) of every PEM block in `text`; what is between them is no part of any.

    Raises:
        InvalidKeyError: a block is not base64. Headers within a block, as old encrypted keys have them, are not either.
    """
    blocks: list[tuple[str, bytes]] = []
    for match in _PEM.finditer(text):
        label = match[1].decode()
        try:
            content = base64.b64decode(b"".join(match[2].split()), validate=True)
        except ValueError as exc:
            raise InvalidKeyError(f"PEM block '{label}' is not base64") from exc
        blocks.append((label, content))
    return blocks


def _encrypt(plain: bytes, passphrase: bytes) -> bytes:
    """Return an EncryptedPrivateKeyInfo: PBES2 with scrypt and AES-256-CBC."""
    salt, vector = secrets.token_bytes(_SALT), secrets.token_bytes(_BLOCK)
    key = Scrypt(salt, _KEY, SCRYPT_N, SCRYPT_R, SCRYPT_P).derive(passphrase)
    padder = PKCS7(_BLOCK * 8).padder()
    encryptor = Cipher(AES256(key), CBC(vector)).encryptor()
    secret = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()

    cost = _integer(SCRYPT_N) + _integer(SCRYPT_R) + _integer(SCRYPT_P)
    derivation = _der(_SEQUENCE, _OID_SCRYPT + _der(_SEQUENCE, _der(_OCTET_STRING, salt) + cost))
    cipher = _der(_SEQUENCE, _OID_AES256_CBC + _der(_OCTET_STRING, vector))
    scheme = _der(_SEQUENCE, _OID_PBES2 + _der(_SEQUENCE, derivation + cipher))
    return _der(_SEQUENCE, scheme + _der(_OCTET_STRING, secret))


def _der(tag: int, content: bytes) -> bytes:
    """Return one DER element."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size) + content


def _integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1))  # one bit more, which is the sign
