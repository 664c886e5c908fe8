"""The certificate of libp2p's TLS: self-signed, with the peer's long-lived key and its signature in an extension.

    SignedKey ::= SEQUENCE { publicKey OCTET STRING, signature OCTET STRING }

publicKey is the protobuf message PublicKey; the signature is by that key, over a prefix and the certificate's own key.
Who somebody is follows from the extension alone: names and serial numbers mean nothing.

Spec: https://github.com/libp2p/specs/blob/master/tls/tls.md, "Peer Authentication"
"""

import hashlib
import warnings
from datetime import UTC, datetime
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtensionOID, NameOID

from ipvcs.errors import DecodeError, IntegrityError
from ipvcs.node.identity.keys import MAX_RSA_BITS, MIN_RSA_BITS, PrivateKey, PublicKey
from ipvcs.node.network.errors import HandshakeError

EXTENSION_OID: Final = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
SIGNATURE_PREFIX: Final = b"libp2p-tls-handshake:"
MAX_CERTIFICATE: Final = 16 * 1024
"""Bytes. One with RSA-8192 in both places has 4.3 KiB; ours with Ed25519 has 400 bytes."""

# As rust-libp2p and js-libp2p: a certificate lives as long as the process, and neither clock need be right.
_NOT_BEFORE: Final = datetime(1975, 1, 1, tzinfo=UTC)
_NOT_AFTER: Final = datetime(4096, 1, 1, tzinfo=UTC)
_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "libp2p")])

_HARMLESS: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
"""Extensions that may be critical: they speak of authorities and names, of which there are none here."""

_OCTET_STRING: Final = 0x04
_SEQUENCE: Final = 0x30
_MAX_DER_LENGTH: Final = 4  # bytes that a length may take; two are enough for any certificate that we look at

_CertificateKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class CertificateError(HandshakeError):
    """A peer's certificate does not prove who the peer is."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the peer's TLS certificate is not valid: {reason}")


_MALFORMED: Final = (
    ValueError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,
    UnsupportedAlgorithm,
)
"""All that the library has to say of bytes that are no sound certificate."""


def make_certificate(private_key: PrivateKey, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Return the certificate of `key`, made for this process, that proves the id of `private_key`."""
    public = key.public_key()
    info = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signed_key = _encode_signed_key(private_key.public_key.encode(), private_key.sign(SIGNATURE_PREFIX + info))
    builder = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(public)
        # Positive, and another for each key, as RFC 5280 wants it; nobody looks.
        .serial_number(int.from_bytes(hashlib.sha256(info).digest()[:15]) + 1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        # The first and only extension: js-libp2p looks at the first alone. Not critical, as go-libp2p has it.
        .add_extension(x509.UnrecognizedExtension(EXTENSION_OID, signed_key), critical=False)
    )
    return builder.sign(key, SHA256())


def verify_certificate(der: bytes, now: datetime) -> PublicKey:
    """Return the key of the peer whom the certificate `der` proves to be at the other end.

    That the peer holds the certificate's own key is for TLS to check.

    Raises:
        CertificateError: what is wrong with it.
    """
    if len(der) > MAX_CERTIFICATE:
        raise CertificateError(f"{len(der)} bytes are over {MAX_CERTIFICATE}")
    try:
        with warnings.catch_warnings():
            # What the library takes with a warning, as a serial number of 0, it will refuse one day: we do so now.
            warnings.simplefilter("error", CryptographyDeprecationWarning)
            certificate = x509.load_der_x509_certificate(der)
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        extensions = certificate.extensions
    except _MALFORMED as exc:
        raise CertificateError(f"it is malformed: {exc}") from exc
    if not not_before <= now <= not_after:
        raise CertificateError(f"it is valid from {not_before:%Y-%m-%d %H:%M} to {not_after:%Y-%m-%d %H:%M} only")
    signed_key: bytes | None = None
    for extension in extensions:
        if extension.oid == EXTENSION_OID:
            assert isinstance(extension.value, x509.UnrecognizedExtension)
            signed_key = extension.value.value
        elif extension.critical and extension.oid not in _HARMLESS:
            raise CertificateError(f"critical extension {extension.oid.dotted_string} is unknown")
    if signed_key is None:
        raise CertificateError("it has no libp2p extension")
    info = _verify_self_signed(certificate).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    encoded_key, signature = _decode_signed_key(signed_key)
    try:
        public_key = PublicKey.decode(encoded_key)
        public_key.verify(SIGNATURE_PREFIX + info, signature)
    except (DecodeError, IntegrityError) as exc:
        raise CertificateError(str(exc)) from exc
    return public_key


def _verify_self_signed(certificate: x509.Certificate) -> _CertificateKey:
    """Return the certificate's own key, which must have signed it. Pairs of key and hash are those that TLS 1.3 has."""
    try:
        key = certificate.public_key()
        algorithm = certificate.signature_hash_algorithm
        scheme = certificate.signature_algorithm_parameters
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise CertificateError(f"unsupported key or signature: {exc}") from exc
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        match key, algorithm, scheme:
            case ed25519.Ed25519PublicKey(), None, _:
                key.verify(signature, signed)
            case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()), SHA256(), ec.ECDSA():
                key.verify(signature, signed, scheme)
            case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()), SHA384(), ec.ECDSA():
                key.verify(signature, signed, scheme)
            case rsa.RSAPublicKey(), SHA256() | SHA384() | SHA512(), padding.PKCS1v15() | padding.PSS():
                if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
                    raise CertificateError(f"its RSA key has {key.key_size} bits")
                key.verify(signature, signed, scheme, algorithm)
            case _:
                raise CertificateError("its key is neither Ed25519, P-256, P-384 nor RSA, or the hash does not fit")
    except (InvalidSignature, ValueError) as exc:
        raise CertificateError("it is not signed with its own key") from exc
    return key


def _encode_signed_key(public_key: bytes, signature: bytes) -> bytes:
    return _encode_der(_SEQUENCE, _encode_der(_OCTET_STRING, public_key) + _encode_der(_OCTET_STRING, signature))


def _decode_signed_key(data: bytes) -> tuple[bytes, bytes]:
    tag, content, end = _decode_der(data, 0)
    first, public_key, middle = _decode_der(content, 0)
    second, signature, last = _decode_der(content, middle)
    if (tag, first, second) != (_SEQUENCE, _OCTET_STRING, _OCTET_STRING) or end != len(data) or last != len(content):
        raise CertificateError("libp2p extension is not a sequence of two octet strings")
    return public_key, signature


def _encode_der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def _decode_der(data: bytes, position: int) -> tuple[int, bytes, int]:
    """Return (tag, content, end) of the DER value at `position`. Raises CertificateError."""
    if len(data) < position + 2:
        raise CertificateError("a DER value is cut short")
    tag, size = data[position], data[position + 1]
    start = position + 2
    if size >= 0x80:
        count = size & 0x7F
        length = data[start : start + count]
        start += count
        size = int.from_bytes(length)
        if not 0 < count <= _MAX_DER_LENGTH or len(length) < count or length[0] == 0 or size < 0x80:
            raise CertificateError("a DER length is not minimal")
    end = start + size
    if end > len(data):
        raise CertificateError("a DER value is cut short")
    return tag, data[start:end], end
