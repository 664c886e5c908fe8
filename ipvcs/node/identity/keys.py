"""Public and private keys as libp2p writes them, and signatures with them.

A key is the protobuf message `{Type = 1; Data = 2}`. What `Data` holds depends on the type:

    type        public                  private                         signature
    RSA         PKIX DER                PKCS#1 DER                      PKCS#1 v1.5 with sha2-256
    Ed25519     32 bytes                seed and public key, 64 bytes   RFC 8032, 64 bytes
    Secp256k1   33 bytes, compressed    32 bytes                        DER, low S, of sha2-256
    ECDSA       PKIX DER                SEC1 DER                        DER, of sha2-256

A peer id is a hash of the message's bytes, so only the one deterministic encoding of a key is read: with another, two
peers could hold different ids of one key.

Spec: https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#keys
"""

from enum import IntEnum
from itertools import islice
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from ipvcs.errors import DecodeError, IntegrityError, UsageError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.objects.protobuf import BYTES, VARINT, encode_varint, iter_fields

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
"""What go-libp2p takes: below is too weak, above lets a peer burn our time with one signature."""
_MAX_RSA_EXPONENT: Final = (1 << 31) - 1
"""Go's crypto/rsa takes no larger one; verifying with a large one costs as much as signing."""
_MAX_ENCODED: Final = 8 * 1024
"""Bytes: an RSA private key of 8192 bits has some 4,700."""

_ED25519_KEY: Final = 32
_ED25519_SIGNATURE: Final = 64
_SECP256K1_PRIVATE: Final = 32
_SECP256K1_PUBLIC: Final = 33
_SECP256K1_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""SEC 2, section 2.4.1."""

_ECDSA_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

PublicHandle = rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
PrivateHandle = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


class InvalidKeyError(DecodeError):
    """Bytes are not a key, or not one that can be used safely."""


class SignatureError(IntegrityError):
    """A signature was not made with the private half of `public_key`, or not of these bytes."""

    def __init__(self, public_key: "PublicKey") -> None:
        super().__init__(f"signature does not match the key of peer '{public_key.peer_id}'")
        self.public_key = public_key


class KeyType(IntEnum):
    """The key types of libp2p, by their number on the wire."""

    RSA = 0
    ED25519 = 1
    SECP256K1 = 2
    ECDSA = 3


class PublicKey:
    """A public key that has been checked: immutable, equal and hashed by its bytes.

    `decode` makes one from a peer's bytes; our own come from `PrivateKey.public_key`.
    """

    __slots__ = ("_data", "_encoded", "_handle", "_peer_id", "_type")

    def __init__(self, type: KeyType, data: bytes) -> None:  # noqa: A002 - the field's name in the specification
        """Check a key of `type` whose field `Data` is `data`. Raises InvalidKeyError."""
        self._type = type
        self._data = data
        self._handle = _load_public(type, data)
        self._encoded = _encode_message(type, data)
        self._peer_id: PeerId | None = None

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the key that `data`, the protobuf message PublicKey, is.

        Raises:
            InvalidKeyError: not the deterministic encoding, an unknown type, or a key that is malformed or too weak.
        """
        return cls(*_decode_message(data))

    def encode(self) -> bytes:
        """Return the protobuf message PublicKey, which the peer id is made of."""
        return self._encoded

    @property
    def type(self) -> KeyType:
        """What kind of key it is."""
        return self._type

    @property
    def data(self) -> bytes:
        """The message's field `Data`; what it holds depends on the type."""
        return self._data

    @property
    def handle(self) -> PublicHandle:
        """The key as the `cryptography` library has it."""
        return self._handle

    @property
    def peer_id(self) -> PeerId:
        """The id of the peer with this key."""
        if self._peer_id is None:
            self._peer_id = PeerId.from_public_key(self._encoded)
        return self._peer_id

    def verify(self, data: bytes, signature: bytes) -> None:
        """Return if `signature` was made over `data` with the private half of this key.

        Raises:
            SignatureError: it was not, or it is not a signature at all.
        """
        handle = self._handle
        try:
            if isinstance(handle, ed25519.Ed25519PublicKey):
                handle.verify(signature, data)
            elif isinstance(handle, rsa.RSAPublicKey):
                handle.verify(signature, data, padding.PKCS1v15(), SHA256())
            else:
                if self._type is KeyType.SECP256K1:
                    _check_low_s(signature)
                handle.verify(signature, data, ec.ECDSA(SHA256()))
        except (InvalidSignature, ValueError) as exc:  # ValueError: not even DER
            raise SignatureError(self) from exc

    def __eq__(self, other: object) -> bool:
        return self._encoded == other._encoded if isinstance(other, PublicKey) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._encoded)

    def __repr__(self) -> str:
        return f"PublicKey({self._type.name}, {self.peer_id})"


class PrivateKey:
    """A private key: immutable, and shown without its secret. Make one with `generate_key` or `decode`."""

    __slots__ = ("_handle", "_public_key")

    def __init__(self, handle: object) -> None:
        """Take a key that the `cryptography` library made or read. Raises InvalidKeyError: not one of libp2p's."""
        if not isinstance(handle, PrivateHandle):
            raise InvalidKeyError("key is neither Ed25519, RSA, secp256k1 nor ECDSA")
        self._handle = handle
        self._public_key = public_key_of(handle.public_key())

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the key that `data`, the protobuf message PrivateKey, is.

        Raises:
            InvalidKeyError: not the deterministic encoding, an unknown type, or a key that is malformed or too weak.
        """
        return cls(_load_private(*_decode_message(data)))

    def encode(self) -> bytes:
        """Return the protobuf message PrivateKey: the secret in clear."""
        return _encode_message(self.type, _private_data(self._handle))

    @property
    def type(self) -> KeyType:
        """What kind of key it is."""
        return self._public_key.type

    @property
    def public_key(self) -> PublicKey:
        """The half that everybody may know."""
        return self._public_key

    @property
    def peer_id(self) -> PeerId:
        """The id of the peer with this key."""
        return self._public_key.peer_id

    @property
    def handle(self) -> PrivateHandle:
        """The key as the `cryptography` library has it."""
        return self._handle

    def sign(self, data: bytes) -> bytes:
        """Return a signature of `data`, always the same one for the same data."""
        handle = self._handle
        if isinstance(handle, ed25519.Ed25519PrivateKey):
            return handle.sign(data)
        if isinstance(handle, rsa.RSAPrivateKey):
            return handle.sign(data, padding.PKCS1v15(), SHA256())
        # RFC 6979: a nonce that does not depend on the machine's randomness can't give the key away.
        signature = handle.sign(data, ec.ECDSA(SHA256(), deterministic_signing=True))
        return _lower_s(signature) if self.type is KeyType.SECP256K1 else signature

    def __eq__(self, other: object) -> bool:
        return self._public_key == other._public_key if isinstance(other, PrivateKey) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._public_key)

    def __repr__(self) -> str:
        return f"PrivateKey({self.type.name}, {self.peer_id})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a private key is not pickled or copied; encode() lets the secret out")


def generate_key(type: KeyType = KeyType.ED25519, *, bits: int = MIN_RSA_BITS) -> PrivateKey:  # noqa: A002
    """Make a new key. `bits` is for RSA alone; 2048 take about a tenth of a second, 4096 a second or more.

    Raises:
        UsageError: a type that is read but not made, or too few or too many bits.
    """
    if type is KeyType.ED25519:
        return PrivateKey(ed25519.Ed25519PrivateKey.generate())
    if type is not KeyType.RSA:
        raise UsageError(f"keys of type {type.name.lower()} are read but not made", hint="choose ed25519 or rsa")
    check_rsa_size(bits)
    return PrivateKey(rsa.generate_private_key(65537, bits))


def check_rsa_size(bits: int) -> None:
    """Raise UsageError for a size of RSA keys that peers would refuse."""
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        raise UsageError(
            f"cannot make an RSA key of {bits} bits",
            hint=f"peers take {MIN_RSA_BITS} to {MAX_RSA_BITS} bits; {MIN_RSA_BITS} is the usual size",
        )


def public_key_of(handle: object) -> PublicKey:
    """Return a public key that the `cryptography` library read. Raises InvalidKeyError: not one of libp2p's."""
    return PublicKey(*_public_parts(handle))


def _encode_message(type: KeyType, data: bytes) -> bytes:  # noqa: A002
    # Proto2: a type of 0 is written, too.
    return bytes((1 << 3 | VARINT, type, 2 << 3 | BYTES)) + encode_varint(len(data)) + data


def _decode_message(data: bytes) -> tuple[KeyType, bytes]:
    """Return type and `Data` of a message PublicKey or PrivateKey.

    "Implementations MUST … encode deterministically": fields in order, minimal varints, nothing left out or added.
    """
    if len(data) > _MAX_ENCODED:
        raise InvalidKeyError(f"key is over {_MAX_ENCODED} bytes")
    try:
        fields = list(islice(iter_fields(data), 3))
    except DecodeError as exc:
        raise InvalidKeyError(f"key is not a protobuf message: {exc}") from exc
    match fields:
        case [(1, 0, int(number)), (2, 2, bytes(content))]:
            pass
        case _:
            raise InvalidKeyError("key does not consist of the fields Type and Data, in that order")
    try:
        key_type = KeyType(number)
    except ValueError:
        raise InvalidKeyError(f"unknown key type {number}") from None
    if _encode_message(key_type, content) != data:
        raise InvalidKeyError("key is not encoded deterministically")
    return key_type, bytes(content)


def _load_public(key_type: KeyType, data: bytes) -> PublicHandle:
    """Return the public key with the field `data`, if that is how the key is always written."""
    handle: PublicHandle
    try:
        if key_type is KeyType.ED25519:
            _check_length(data, _ED25519_KEY, "Ed25519 public key")
            return ed25519.Ed25519PublicKey.from_public_bytes(data)
        if key_type is KeyType.SECP256K1:
            _check_length(data, _SECP256K1_PUBLIC, "secp256k1 public key")
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), data)
        loaded = load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise InvalidKeyError(f"{key_type.name} public key is malformed") from exc
    wanted = rsa.RSAPublicKey if key_type is KeyType.RSA else ec.EllipticCurvePublicKey
    if not isinstance(loaded, wanted):
        raise InvalidKeyError(f"{key_type.name} key holds a key of another kind")
    handle = loaded
    if _public_parts(handle) != (key_type, data):
        raise InvalidKeyError(f"{key_type.name} public key is not encoded canonically")
    return handle


def _public_parts(handle: object) -> tuple[KeyType, bytes]:
    """Return type and `Data` of a public key. Raises InvalidKeyError: libp2p has none such, or it is too weak."""
    if isinstance(handle, ed25519.Ed25519PublicKey):
        return KeyType.ED25519, handle.public_bytes_raw()
    if isinstance(handle, rsa.RSAPublicKey):
        _check_rsa(handle)
        return KeyType.RSA, handle.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if isinstance(handle, ec.EllipticCurvePublicKey):
        if isinstance(handle.curve, ec.SECP256K1):
            return KeyType.SECP256K1, handle.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        if isinstance(handle.curve, _ECDSA_CURVES):
            return KeyType.ECDSA, handle.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        raise InvalidKeyError(f"curve {handle.curve.name} is not one that peers know")
    raise InvalidKeyError("key is neither Ed25519, RSA, secp256k1 nor ECDSA")


def _check_rsa(handle: rsa.RSAPublicKey) -> None:
    if not MIN_RSA_BITS <= handle.key_size <= MAX_RSA_BITS:
        raise InvalidKeyError(
            f"RSA key has {handle.key_size} bits, which is not within {MIN_RSA_BITS} to {MAX_RSA_BITS}"
        )
    exponent = handle.public_numbers().e
    if exponent < 3 or exponent % 2 == 0 or exponent > _MAX_RSA_EXPONENT:
        raise InvalidKeyError("RSA key has an exponent that is even, below 3, or over 31 bits")


def _load_private(key_type: KeyType, data: bytes) -> PrivateHandle:
    """Return the private key with the field `data`."""
    handle: PrivateHandle
    try:
        if key_type is KeyType.ED25519:
            return _load_ed25519_private(data)
        if key_type is KeyType.SECP256K1:
            _check_length(data, _SECP256K1_PRIVATE, "secp256k1 private key")
            return ec.derive_private_key(int.from_bytes(data), ec.SECP256K1())
        loaded = load_der_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:  # TypeError: it is encrypted
        raise InvalidKeyError(f"{key_type.name} private key is malformed") from exc
    wanted = rsa.RSAPrivateKey if key_type is KeyType.RSA else ec.EllipticCurvePrivateKey
    if not isinstance(loaded, wanted) or _public_parts(loaded.public_key())[0] is not key_type:
        raise InvalidKeyError(f"{key_type.name} key holds a key of another kind")
    handle = loaded
    if _private_data(handle) != data:  # PKCS#8, for one, which the library would take as well
        raise InvalidKeyError(f"{key_type.name} private key is not encoded as libp2p does")
    return handle


def _load_ed25519_private(data: bytes) -> ed25519.Ed25519PrivateKey:
    """Read seed and public key; early libp2p wrote the latter twice, as 96 bytes in all."""
    seed, public, again = data[:_ED25519_KEY], data[_ED25519_KEY : 2 * _ED25519_KEY], data[2 * _ED25519_KEY :]
    if len(data) not in (2 * _ED25519_KEY, 3 * _ED25519_KEY):
        raise InvalidKeyError(f"Ed25519 private key has {len(data)} bytes instead of {2 * _ED25519_KEY}")
    handle = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    # Signing with one key and naming another as its public half would give the private one away.
    if handle.public_key().public_bytes_raw() != public or again not in (b"", public):
        raise InvalidKeyError("Ed25519 private key does not match the public key beside it")
    return handle


def _private_data(handle: PrivateHandle) -> bytes:
    """Return the field `Data` of a private key."""
    if isinstance(handle, ed25519.Ed25519PrivateKey):
        return handle.private_bytes_raw() + handle.public_key().public_bytes_raw()
    if isinstance(handle, ec.EllipticCurvePrivateKey) and isinstance(handle.curve, ec.SECP256K1):
        return handle.private_numbers().private_value.to_bytes(_SECP256K1_PRIVATE)
    # "Traditional" is PKCS#1 for RSA and SEC1 for elliptic curves.
    return handle.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _check_length(data: bytes, length: int, what: str) -> None:
    if len(data) != length:
        raise InvalidKeyError(f"{what} has {len(data)} bytes instead of {length}")


def _check_low_s(signature: bytes) -> None:
    """Refuse the other of the two signatures that anybody can make of one: "low S", as every signer writes it."""
    if decode_dss_signature(signature)[1] > _SECP256K1_ORDER // 2:
        raise ValueError("S is not the lower one")


def _lower_s(signature: bytes) -> bytes:
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, min(s, _SECP256K1_ORDER - s))
