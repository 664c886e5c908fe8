"""One key's file in the keystore: its name, and what is in it. Pure: bytes in, bytes out.

The file is text: the public key in clear, then the private one as PKCS#8, in clear or encrypted. OpenSSL reads either.
Its name is `key_` and the key's name in base32, as in Kubo's keystore: any text is safe in it, on any file system.
"""

import base64
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final, Self

from ipvcs.errors import IntegrityError, UsageError
from ipvcs.node.identity import pkcs8
from ipvcs.node.identity.keys import InvalidKeyError, PrivateKey, PublicKey

MAX_NAME: Final = 128
"""Bytes in UTF-8: base32 makes 205 of them, and no file system takes a file name over 255."""

_FILE: Final = re.compile(r"key_([a-z2-7]+)")
_CONTROL: Final = ("Cc", "Zl", "Zp")
"""Unicode's categories of control characters and of line and paragraph separators."""


class KeyNameError(UsageError):
    """A name that no key can have."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"key name {name!a} {reason}", hint=f"use 1 to {MAX_NAME} bytes of text on one line")
        self.name = name


class DamagedKeyError(IntegrityError):
    """A key's file is not what was written."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"key '{name}' is damaged: {reason}",
            hint=f"restore the file 'keystore/{file_of_name(name)}' in the home from a backup",
        )
        self.name = name


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it lies in the keystore: what can be told without the passphrase, and the private half unopened."""

    name: str
    public_key: PublicKey
    is_encrypted: bool
    sealed: bytes = field(repr=False)
    """PKCS#8 in DER."""

    @classmethod
    def decode(cls, name: str, content: bytes) -> Self:
        """Return the key that the file of `name` holds. Raises DamagedKeyError."""
        try:
            match pkcs8.decode_pem(content):
                case [(pkcs8.PUBLIC, public), ((pkcs8.PRIVATE | pkcs8.ENCRYPTED) as label, sealed)]:
                    return cls(name, pkcs8.decode_public(public), label == pkcs8.ENCRYPTED, sealed)
        except InvalidKeyError as exc:
            raise DamagedKeyError(name, str(exc)) from exc
        raise DamagedKeyError(name, "its file is not a public and a private key in PEM")

    def unseal(self, passphrase: bytes | None) -> PrivateKey:
        """Return the private key; `passphrase` counts only if it is encrypted, and then there must be one.

        Raises:
            WrongPassphraseError: the passphrase does not open it.
            DamagedKeyError: it can be opened, and is not the private half of the public key.
        """
        try:
            key = pkcs8.decode_private(self.sealed, passphrase if self.is_encrypted else None)
        except pkcs8.WrongPassphraseError as exc:
            raise pkcs8.WrongPassphraseError(f"key '{self.name}'") from exc
        except InvalidKeyError as exc:
            raise DamagedKeyError(self.name, str(exc)) from exc
        if key.public_key != self.public_key:
            raise DamagedKeyError(self.name, "its public and its private half are not of one key")
        return key


def encode_file(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """Return the file of `key`: encrypted unless `passphrase` is None. Raises UsageError for a bad passphrase."""
    return pkcs8.encode_public(key.public_key) + pkcs8.encode_private(key, passphrase)


def is_encrypted_file(content: bytes) -> bool:
    """Tell whether a file needs a passphrase, without a look at the rest of it."""
    return f"-----BEGIN {pkcs8.ENCRYPTED}-----".encode() in content


def check_name(name: str) -> None:
    """Raise KeyNameError for a name that no key can have: empty, too long, or not text on one line."""
    if not name:
        raise KeyNameError(name, "is empty")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise KeyNameError(name, "is not text in UTF-8") from None
    if size > MAX_NAME:
        raise KeyNameError(name[:20] + "…", f"has {size} bytes")
    if any(unicodedata.category(char) in _CONTROL for char in name):
        raise KeyNameError(name, "has a control character")


def file_of_name(name: str) -> str:
    """Return the file name for a key's name that `check_name` takes."""
    return "key_" + base64.b32encode(name.encode()).decode("ascii").rstrip("=").lower()


def name_of_file(file_name: str) -> str | None:
    """Return the name that `file_of_name` made `file_name` of; None for somebody else's file."""
    if not (match := _FILE.fullmatch(file_name)):
        return None
    text = match[1]
    try:
        name = base64.b32decode(text.upper() + "=" * (-len(text) % 8)).decode()
        check_name(name)
    except (ValueError, KeyNameError):
        return None
    return name if file_of_name(name) == file_name else None
