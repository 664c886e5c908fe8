"""Peer ids (what the white paper and our users call NodeIds): the multihash of a peer's public key.

A short key is inlined in its id (identity multihash), so the key of an Ed25519 or secp256k1 peer can be read out of its
id; RSA and ECDSA ids are sha2-256. Two text forms: base58btc without a multibase prefix (`12D3Koo…`, `16Uiu2…`, `Qm…`),
and a CID with the codec libp2p-key (`k51…`, `k2k4…`, `bafz…`), which is how IPNS names are written.

Spec: https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md
"""

from dataclasses import dataclass
from typing import Final, Self

from ipvcs.errors import DecodeError, shorten
from ipvcs.multiformats import codecs, multibase, multihash
from ipvcs.multiformats.cid import Cid

MAX_INLINE_KEY: Final = 42
"""Bytes. "If the length of the serialized public key is <= 42 bytes, compute the identity multihash"."""
_SHA2_256_LENGTH: Final = 32
_MAX_TEXT_LENGTH: Final = 2048  # as long as a CID's text


class PeerIdError(DecodeError):
    """Not a peer id. `subject` is what was given, as text."""

    def __init__(self, message: str, subject: str = "") -> None:
        super().__init__(
            f"invalid peer id '{shorten(subject)}': {message}" if subject else f"invalid peer id: {message}",
            hint="a peer id looks like '12D3Koo…', 'k51…' or 'Qm…'" if subject else None,
        )
        self.subject = subject


@dataclass(frozen=True, slots=True, order=True)
class PeerId:
    """One peer's name, as the bytes of its multihash.

    Make one with `decode`, `parse`, `from_cid` or `from_public_key`; the constructor itself does not check.
    """

    raw: bytes

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the peer id that `data`, a multihash, is.

        Raises:
            PeerIdError: not a multihash, neither sha2-256 of 32 bytes nor identity of 1 to `MAX_INLINE_KEY`.
        """
        try:
            code, digest = multihash.decode(data)
        except DecodeError as exc:
            raise PeerIdError(str(exc)) from exc
        if code == multihash.SHA2_256:
            if len(digest) != _SHA2_256_LENGTH:
                raise PeerIdError(f"sha2-256 digest has {len(digest)} bytes instead of {_SHA2_256_LENGTH}")
        elif code != multihash.IDENTITY:
            raise PeerIdError(f"hash function {multihash.name_of(code)} is neither sha2-256 nor identity")
        elif not 0 < len(digest) <= MAX_INLINE_KEY:
            raise PeerIdError(f"inline key of {len(digest)} bytes is not within 1 to {MAX_INLINE_KEY}")
        return cls(bytes(data))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the peer id that `text` writes: base58btc if it starts with `1` or `Qm`, else a libp2p-key CID.

        Raises:
            PeerIdError: neither form, a CID with another codec, or a multihash that `decode` refuses.
        """
        if len(text) > _MAX_TEXT_LENGTH:
            raise PeerIdError(f"longer than {_MAX_TEXT_LENGTH} characters", text)
        try:
            if text.startswith(("1", "Qm")):
                return cls.decode(multibase.decode_base58(text))
            return cls.from_cid(Cid.decode(multibase.decode(text)))
        except DecodeError as exc:
            raise PeerIdError(str(exc).removeprefix("invalid peer id: "), text or "''") from exc

    @classmethod
    def from_cid(cls, cid: Cid) -> Self:
        """Return the peer id that an IPNS name's CID holds.

        Raises:
            PeerIdError: the codec is not libp2p-key, or a multihash that `decode` refuses.
        """
        if cid.codec != codecs.LIBP2P_KEY:
            raise PeerIdError(f"CID has the codec {codecs.name_of(cid.codec)} instead of libp2p-key")
        return cls.decode(cid.multihash)

    @classmethod
    def from_public_key(cls, public_key: bytes) -> Self:
        """Return the id of the peer with `public_key`, the deterministic bytes of the protobuf message PublicKey.

        Raises:
            PeerIdError: the key is empty.
        """
        if not public_key:
            raise PeerIdError("public key is empty")
        inline = len(public_key) <= MAX_INLINE_KEY
        return cls(multihash.sum_(public_key, multihash.IDENTITY if inline else multihash.SHA2_256))

    @property
    def public_key(self) -> bytes | None:
        """The protobuf PublicKey inlined in the id, unparsed and untrusted; None when the id is a hash of it."""
        return self.raw[2:] if self.raw[0] == multihash.IDENTITY else None

    def matches(self, public_key: bytes) -> bool:
        """Tell whether this is the id of the peer with `public_key`, the bytes of the protobuf PublicKey."""
        return PeerId.from_public_key(public_key).raw == self.raw

    def to_cid(self) -> Cid:
        """Return the id as a CID: version 1, codec libp2p-key."""
        return Cid.make(self.raw, codecs.LIBP2P_KEY)

    def to_base36(self) -> str:
        """Return the text of `to_cid` in base36, `k51…` or `k2k4…`: fits a DNS label, and is how IPNS names print."""
        return self.to_cid().encode("base36")

    def __str__(self) -> str:
        return multibase.encode_base58(self.raw)

    def __repr__(self) -> str:
        return f"PeerId({self})"
