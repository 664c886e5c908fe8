"""Keys in files that people carry from one node to another: Kubo's two formats of `key export`, and an encrypted one.

    libp2p-protobuf-cleartext   the protobuf message PrivateKey
    pem-pkcs8-cleartext         PKCS#8 in PEM, `PRIVATE KEY`
    pem-pkcs8-encrypted         the same encrypted with a passphrase, `ENCRYPTED PRIVATE KEY` (Kubo does not read it)

An import may leave the format to `detect`. It also knows the base64 text that Kubo's config has in `Identity.PrivKey`.

Spec: https://docs.ipfs.tech/reference/kubo/cli/#ipfs-key-import
"""

import base64
import binascii
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from ipvcs.node.identity import pkcs8
from ipvcs.node.identity.keys import InvalidKeyError, PrivateKey

MAX_KEY_FILE: Final = 64 * 1024
"""Bytes. An RSA key of 8192 bits takes 6.5 KiB as PEM; the rest is room for what people write above it."""


class KeyFormat(StrEnum):
    """How a key is written in a file of its own."""

    LIBP2P = "libp2p-protobuf-cleartext"
    PEM = "pem-pkcs8-cleartext"
    PEM_ENCRYPTED = "pem-pkcs8-encrypted"

    @property
    def extension(self) -> str:
        """The end of a file's name, as Kubo chooses it."""
        return "key" if self is KeyFormat.LIBP2P else "pem"


class KeyFormatError(InvalidKeyError):
    """A file holds no key, or not in the format that was named."""


def export_key(key: PrivateKey, key_format: KeyFormat, passphrase: bytes | None = None) -> bytes:
    """Return `key` as a file in `key_format`; `passphrase` is for the encrypted format, which needs it.

    Raises:
        UsageError: the passphrase is empty or too long.
    """
    if key_format is KeyFormat.LIBP2P:
        return key.encode()
    return pkcs8.encode_private(key, (passphrase or b"") if key_format is KeyFormat.PEM_ENCRYPTED else None)


def detect(data: bytes) -> KeyFormat:
    """Return the format that a file's content has.

    Raises:
        KeyFormatError: none of ours; the hint says what it looks like and how to convert it.
    """
    labels = [label for label, _ in pkcs8.decode_pem(data)]
    if pkcs8.ENCRYPTED in labels:
        return KeyFormat.PEM_ENCRYPTED
    if pkcs8.PRIVATE in labels:
        return KeyFormat.PEM
    if labels:
        raise _wrong_label(labels[0])
    if b"-----BEGIN " in data:
        raise KeyFormatError("PEM block has no end", hint="copy the file again, whole")
    return KeyFormat.LIBP2P


def import_key(data: bytes, key_format: KeyFormat | None, passphrase: Callable[[], bytes]) -> PrivateKey:
    """Return the key in a file with the content `data`.

    Args:
        data: at most `MAX_KEY_FILE` bytes.
        key_format: what it must be; None takes what it is.
        passphrase: asked only if the key is encrypted.

    Raises:
        KeyFormatError: no key in there, or another format than `key_format`.
        InvalidKeyError: the format is right and the key is not: damaged, too weak, or of a kind that peers don't know.
        WrongPassphraseError: the passphrase does not open it.
    """
    if len(data) > MAX_KEY_FILE:
        raise KeyFormatError(
            f"file is over {MAX_KEY_FILE // 1024} KiB, which no key is", hint="name the key's own file"
        )
    if not data.strip():
        raise KeyFormatError("file is empty", hint="name the file that `key export` wrote")
    found = detect(data)
    if key_format not in (None, found):
        raise KeyFormatError(
            f"file is not in the format {key_format}",
            hint="leave --format out to have it detected"
            if found is KeyFormat.LIBP2P
            else f"try again with --format={found}, or without --format",
        )
    if found is KeyFormat.LIBP2P:
        return _decode_message(data, exact=key_format is not None)
    label = pkcs8.PRIVATE if found is KeyFormat.PEM else pkcs8.ENCRYPTED
    content = next(content for kind, content in pkcs8.decode_pem(data) if kind == label)
    return pkcs8.decode_private(content, passphrase() if found is KeyFormat.PEM_ENCRYPTED else None)


def _decode_message(data: bytes, *, exact: bool) -> PrivateKey:
    """Read a protobuf message PrivateKey; unless `exact`, its base64 will do."""
    try:
        return PrivateKey.decode(data)
    except InvalidKeyError as exc:
        if not exact and (message := _from_base64(data)) is not None:
            return PrivateKey.decode(message)
        if _is_message(data):  # it is a key, and what is wrong with it is known
            raise
        raise KeyFormatError(f"file holds no private key: {exc}", hint=_foreign_hint(data)) from exc


def _from_base64(data: bytes) -> bytes | None:
    try:
        message = base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error:
        return None
    return message if _is_message(message) else None


def _is_message(data: bytes) -> bool:
    """Whether `data` begins as every message PrivateKey does: field 1, a known type, field 2."""
    return len(data) > 2 and data[0] == 0x08 and data[1] < 4 and data[2] == 0x12


def _wrong_label(label: str) -> KeyFormatError:
    """Return the error for a PEM file without a PKCS#8 block, whose first block is `label`."""
    if label == "PUBLIC KEY":
        return KeyFormatError("file holds a public key", hint="name the file with the private half")
    if label == "OPENSSH PRIVATE KEY":
        return KeyFormatError("file holds an OpenSSH key", hint="convert a copy: `ssh-keygen -p -m PKCS8 -f COPY`")
    if label.endswith(" PRIVATE KEY"):
        return KeyFormatError(
            f"file holds a PEM block '{label}', which is not PKCS#8",
            hint="convert it: `openssl pkcs8 -topk8 -nocrypt -in FILE -out NEW`",
        )
    return KeyFormatError(f"file holds a PEM block '{label}', which is no private key", hint="name another file")


def _foreign_hint(data: bytes) -> str:
    if data[:1] == b"\x30":  # an ASN.1 sequence
        return "this may be DER; convert it to PEM: `openssl pkey -inform DER -in FILE -out NEW`"
    if data.lstrip()[:1] == b"{":
        return "this may be JSON; take the text of `Identity.PrivKey` out of a Kubo config into a file of its own"
    return "name a file that `ipvcs key export`, `ipfs key export` or OpenSSL (PKCS#8) wrote"
