"""What travels inside the Noise handshake: who owns the static key, and which muxers it would use.

The messages are read strictly: a known field of the wrong type, twice, or not UTF-8 ends the handshake. Unknown fields
are skipped, as protobuf wants it; number 3, the abandoned early `data`, is one of them.

Spec: https://github.com/libp2p/specs/blob/master/noise/README.md, "Libp2p Data in Handshake Messages"
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from ipvcs.objects import protobuf
from ipvcs.objects.protobuf import ProtobufError

_IDENTITY_KEY: Final = 1
_IDENTITY_SIG: Final = 2
_EXTENSIONS: Final = 4
_STREAM_MUXERS: Final = 2
_KNOWN: Final = {_IDENTITY_KEY: "identity_key", _IDENTITY_SIG: "identity_sig", _EXTENSIONS: "extensions"}


@dataclass(frozen=True, slots=True)
class NoisePayload:
    """A NoiseHandshakePayload, unverified: `signature` has to be checked before anything else is used."""

    identity_key: bytes
    """The protobuf message PublicKey."""
    signature: bytes
    """By that key, over the static X25519 key."""
    muxers: tuple[str, ...] = ()
    """In order of preference; empty when the sender does not negotiate the muxer here."""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a payload.

        Raises:
            ProtobufError: not such a message, or without key or signature.
        """
        found: dict[int, bytes] = {}
        for number, wire_type, value in protobuf.iter_fields(data):
            if number not in _KNOWN:
                continue
            if not isinstance(value, bytes) or wire_type != protobuf.BYTES:
                raise ProtobufError(f"field {_KNOWN[number]} has wire type {wire_type}")
            if number in found:
                raise ProtobufError(f"field {_KNOWN[number]} is there twice")
            found[number] = value
        for number in (_IDENTITY_KEY, _IDENTITY_SIG):
            if not found.get(number):
                raise ProtobufError(f"field {_KNOWN[number]} is missing")
        return cls(found[_IDENTITY_KEY], found[_IDENTITY_SIG], _decode_muxers(found.get(_EXTENSIONS, b"")))

    def encode(self) -> bytes:
        """Return the message; without muxers, also without the field `extensions`, as peers older than it sent it."""
        encoded = _field(_IDENTITY_KEY, self.identity_key) + _field(_IDENTITY_SIG, self.signature)
        if self.muxers:
            encoded += _field(_EXTENSIONS, _encode_muxers(self.muxers))
        return encoded


def _decode_muxers(extensions: bytes) -> tuple[str, ...]:
    muxers = []
    for number, wire_type, value in protobuf.iter_fields(extensions):
        if number != _STREAM_MUXERS:
            continue
        if not isinstance(value, bytes) or wire_type != protobuf.BYTES:
            raise ProtobufError(f"field stream_muxers has wire type {wire_type}")
        try:
            muxers.append(value.decode())
        except UnicodeDecodeError:
            raise ProtobufError("field stream_muxers is not UTF-8") from None
    return tuple(muxers)


def _encode_muxers(muxers: Sequence[str]) -> bytes:
    return b"".join(_field(_STREAM_MUXERS, muxer.encode()) for muxer in muxers)


def _field(number: int, value: bytes) -> bytes:
    return protobuf.encode_varint(number << 3 | protobuf.BYTES) + protobuf.encode_varint(len(value)) + value
