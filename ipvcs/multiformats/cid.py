"""Content identifiers: what a block is (codec) and which one (multihash).

A `Cid` is one slot of bytes, because millions of them pass through: fields are read out of the bytes on demand, and the
two forms that nearly all CIDs have (v0, and v1 raw or dag-pb, with sha2-256) take a fast path.

Spec: https://specs.ipfs.tech/cid/ and https://github.com/multiformats/cid
"""

from dataclasses import dataclass
from typing import Final, Self

from ipvcs.errors import DecodeError, shorten
from ipvcs.multiformats import codecs, multibase, multihash, varint

_V0_PREFIX: Final = b"\x12\x20"  # a bare sha2-256 multihash
_COMMON_PREFIXES: Final = (b"\x01\x55\x12\x20", b"\x01\x70\x12\x20")  # v1, raw or dag-pb, sha2-256
_V0_TEXT_LENGTH: Final = 46
_MAX_TEXT_LENGTH: Final = 2048
"""Longer than any CID we accept, in base2 even (149 bytes); stops a text of megabytes before it is decoded."""


class CidError(DecodeError):
    """Not a CID. `subject` is what was given, as text."""

    def __init__(self, message: str, subject: str = "", *, hint: str | None = None) -> None:
        super().__init__(f"invalid CID '{shorten(subject)}': {message}" if subject else message, hint=hint)
        self.subject = subject


@dataclass(frozen=True, slots=True, order=True)
class Cid:
    """One CID, v0 or v1, as its binary form.

    v0 and v1 of the same block are different CIDs; compare `multihash` to ask "same bytes?".
    """

    raw: bytes

    def __eq__(self, other: object) -> bool:
        return self.raw == other.raw if other.__class__ is Cid else NotImplemented

    def __hash__(self) -> int:
        return hash(self.raw)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the CID that `data` holds, whole and alone.

        Raises:
            CidError: unknown version, non-minimal varint, truncated or trailing bytes, a digest of more than
                `multihash.MAX_DIGEST` bytes. As in go-cid, a digest *shorter* than its function's is a CID:
                `multihash.verify` is what refuses those that prove nothing.
        """
        length = len(data)
        if (length == 36 and data[:4] in _COMMON_PREFIXES) or (length == 34 and data[:2] == _V0_PREFIX):
            return cls(bytes(data))
        cid, end = cls.read(data)
        if end != length:
            raise CidError(f"{length - end} bytes follow the CID")
        return cid

    @classmethod
    def read(cls, data: bytes | memoryview, offset: int = 0) -> tuple[Self, int]:
        """Read the CID at byte `offset` of `data`, which may go on after it (as in a CAR section).

        Returns:
            (cid, end): `end` is the offset of the first byte after the CID.

        Raises:
            CidError: as `decode`.
        """
        if data[offset : offset + 2] == _V0_PREFIX:
            end = offset + 34
            if len(data) < end:
                raise CidError("CIDv0 is cut short")
            return cls(bytes(data[offset:end])), end
        try:
            version, position = varint.decode(data, offset)
            if version != 1:
                raise CidError(f"unknown CID version {version}")
            _codec, position = varint.decode(data, position)
            end = multihash.skip(data, position)
        except CidError:
            raise
        except DecodeError as exc:
            raise CidError(f"bad CID: {exc}") from exc
        return cls(bytes(data[offset:end])), end

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the CID that `text` writes, in any multibase; 46 characters from `Qm` are CIDv0.

        Raises:
            CidError: no CID, with the reason; the hint names what a CID looks like.
        """
        hint = "a CID looks like 'bafy…', 'bafk…' or 'Qm…'"
        if len(text) > _MAX_TEXT_LENGTH:
            raise CidError(f"longer than {_MAX_TEXT_LENGTH} characters", text, hint=hint)
        if len(text) < 2:
            raise CidError("too short", text or "''", hint=hint)
        try:
            if text.startswith("Qm") and len(text) == _V0_TEXT_LENGTH:
                data = multibase.decode_base58(text)
                if len(data) != 34 or data[:2] != _V0_PREFIX:
                    raise CidError("not a sha2-256 multihash", text, hint=hint)
                return cls(data)
            data = multibase.decode(text)
            if data[:2] == _V0_PREFIX:
                raise CidError("CIDv0 has no multibase prefix", text, hint="write it as plain base58btc, 'Qm…'")
            return cls.decode(data)
        except CidError as exc:
            if exc.subject:
                raise
            raise CidError(str(exc), text, hint=hint) from exc
        except DecodeError as exc:
            raise CidError(str(exc), text, hint=hint) from exc

    @classmethod
    def of(cls, digest: bytes, codec: int = codecs.RAW) -> Self:
        """Return the CIDv1 of a 32-byte sha2-256 `digest`: the common case, made fast."""
        assert len(digest) == 32
        if codec == codecs.RAW:
            return cls(b"\x01\x55\x12\x20" + digest)
        return cls(b"\x01" + varint.encode(codec) + b"\x12\x20" + digest)

    @classmethod
    def make(cls, multihash_bytes: bytes, codec: int = codecs.RAW, version: int = 1) -> Self:
        """Return the CID of `version` for a whole multihash.

        Raises:
            CidError: version 0 with anything but dag-pb and sha2-256, or an unknown version.
        """
        if version == 1:
            return cls(b"\x01" + varint.encode(codec) + multihash_bytes)
        if version != 0:
            raise CidError(f"unknown CID version {version}")
        if codec != codecs.DAG_PB or len(multihash_bytes) != 34 or multihash_bytes[:2] != _V0_PREFIX:
            raise CidError("CIDv0 is for dag-pb with sha2-256 only", hint="use CID version 1")
        return cls(multihash_bytes)

    @property
    def version(self) -> int:
        """0 or 1."""
        return 0 if self.raw[:2] == _V0_PREFIX else 1

    @property
    def codec(self) -> int:
        """The multicodec number of the block's format; dag-pb for v0."""
        raw = self.raw
        if raw[:2] == _V0_PREFIX:
            return codecs.DAG_PB
        return raw[1] if raw[1] < 0x80 else varint.decode(raw, 1)[0]

    @property
    def multihash(self) -> bytes:
        """The multihash: function, length, digest. Equal multihashes mean equal bytes."""
        raw = self.raw
        if raw[:2] == _V0_PREFIX:
            return raw
        return raw[2:] if raw[1] < 0x80 else raw[varint.decode(raw, 1)[1] :]

    @property
    def hash_code(self) -> int:
        """The multicodec number of the hash function."""
        return varint.decode(self.multihash)[0]

    @property
    def digest(self) -> bytes:
        """The digest alone; for an identity CID, the data."""
        return multihash.digest_of(self.multihash)

    @property
    def is_identity(self) -> bool:
        """True when the CID holds its data inline."""
        raw = self.raw
        return raw[:1] == b"\x01" and raw[:4] not in _COMMON_PREFIXES and self.multihash[:1] == b"\x00"

    @property
    def prefix(self) -> bytes:
        """The CID without its digest: version, codec, function, length. Bitswap's `prefix`."""
        mh = self.multihash
        start = b"\x01" + varint.encode(self.codec) if self.version else b"\x00\x70"
        return start + mh[: len(mh) - len(multihash.digest_of(mh))]

    def with_codec(self, codec: int) -> Self:
        """Return the v1 CID of the same bytes read as `codec`."""
        return self.make(self.multihash, codec)

    def to_v0(self) -> Self:
        """Return the v0 form.

        Raises:
            CidError: only dag-pb with sha2-256 has one.
        """
        return self.make(self.multihash, self.codec, 0)

    def to_v1(self) -> Self:
        """Return the v1 form; a v1 CID is its own."""
        return self if self.version else self.make(self.raw, codecs.DAG_PB)

    def encode(self, base: str = "") -> str:
        """Return the text form in the multibase named `base`; the default is base58btc for v0, base32 for v1.

        Raises:
            CidError: v0 in any base but base58btc.
            multibase.UnknownBaseError: no such base.
        """
        raw = self.raw
        if raw[:2] == _V0_PREFIX:
            if base not in ("", "base58btc"):
                raise CidError("CIDv0 is written in base58btc only", str(self), hint="convert it to CIDv1 first")
            return multibase.encode_base58(raw)
        return multibase.encode(raw, base or "base32")

    def __str__(self) -> str:
        return self.encode()

    def __repr__(self) -> str:
        return f"Cid({self.encode()})"
