"""Signed envelopes: bytes of a named type, signed by a peer's key for one purpose.

The signature covers a *domain*, which is not on the wire, so that a signature made for one purpose proves nothing in
another. Peer records and relay vouchers travel in envelopes.

Spec: https://github.com/libp2p/specs/blob/master/RFC/0002-signed-envelopes.md
"""

from dataclasses import dataclass
from typing import Final, Self

from ipvcs.errors import DecodeError
from ipvcs.multiformats import varint
from ipvcs.node.identity.keys import PrivateKey, PublicKey
from ipvcs.objects.protobuf import BYTES, encode_varint, iter_fields

MAX_ENVELOPE: Final = 8 * 1024
"""Bytes. An envelope travels in one message, and the largest that carries one, identify's, is as long."""

_PUBLIC_KEY: Final = 1
_PAYLOAD_TYPE: Final = 2
_PAYLOAD: Final = 3
_SIGNATURE: Final = 5  # number 4 is not used
_NAMES: Final = {_PUBLIC_KEY: "public_key", _PAYLOAD_TYPE: "payload_type", _PAYLOAD: "payload", _SIGNATURE: "signature"}


class EnvelopeError(DecodeError):
    """Bytes are not a signed envelope, or one of another type than expected."""


@dataclass(frozen=True, slots=True)
class SignedEnvelope:
    """An envelope as it travels. Nothing in it is to be believed before `verify`."""

    public_key: PublicKey
    payload_type: bytes
    """What `payload` is: a multicodec, or a name the protocol chose."""
    payload: bytes
    signature: bytes

    @classmethod
    def make(cls, private_key: PrivateKey, domain: str, payload_type: bytes, payload: bytes) -> Self:
        """Sign `payload` for the purpose `domain`."""
        assert domain, "the domain is what keeps signatures apart"
        assert payload_type
        signature = private_key.sign(_signed_bytes(domain, payload_type, payload))
        return cls(private_key.public_key, payload_type, payload, signature)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an envelope; unknown fields are skipped.

        Raises:
            EnvelopeError: over `MAX_ENVELOPE`, not such a message, a field missing or there twice, or no usable key.
        """
        if len(data) > MAX_ENVELOPE:
            raise EnvelopeError(f"envelope of {len(data)} bytes is over the limit of {MAX_ENVELOPE}")
        found: dict[int, bytes] = {}
        try:
            for number, _wire_type, value in iter_fields(data):
                if number not in _NAMES:
                    continue
                if not isinstance(value, bytes):
                    raise EnvelopeError(f"envelope's field {_NAMES[number]} is not bytes")
                if number in found:
                    raise EnvelopeError(f"envelope's field {_NAMES[number]} is there twice")
                found[number] = value
            for number in (_PUBLIC_KEY, _PAYLOAD_TYPE, _SIGNATURE):
                if not found.get(number):
                    raise EnvelopeError(f"envelope's field {_NAMES[number]} is missing")
            public_key = PublicKey.decode(found[_PUBLIC_KEY])
        except EnvelopeError:
            raise
        except DecodeError as exc:
            raise EnvelopeError(f"invalid envelope: {exc}") from exc
        return cls(public_key, found[_PAYLOAD_TYPE], found.get(_PAYLOAD, b""), found[_SIGNATURE])

    def encode(self) -> bytes:
        """Return the message, fields in order."""
        return b"".join(
            encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value
            for number, value in (
                (_PUBLIC_KEY, self.public_key.encode()),
                (_PAYLOAD_TYPE, self.payload_type),
                (_PAYLOAD, self.payload),
                (_SIGNATURE, self.signature),
            )
            if value
        )

    def verify(self, domain: str, payload_type: bytes) -> tuple[PublicKey, bytes]:
        """Check that the envelope was signed for `domain` and holds a `payload_type`.

        Returns:
            (public key, payload): who signed, and what. Whether that peer may say so is for the caller to judge.

        Raises:
            EnvelopeError: the payload is of another type.
            SignatureError: the signature does not match the key, the domain or the payload.
        """
        if self.payload_type != payload_type:
            raise EnvelopeError(
                f"envelope holds a payload of type {self.payload_type[:32].hex()} instead of {payload_type.hex()}"
            )
        self.public_key.verify(_signed_bytes(domain, self.payload_type, self.payload), self.signature)
        return self.public_key, self.payload


def _signed_bytes(domain: str, payload_type: bytes, payload: bytes) -> bytes:
    """Return what is signed: each part with its length before it, so that no two triples give the same bytes."""
    return b"".join(varint.encode(len(part)) + part for part in (domain.encode(), payload_type, payload))
