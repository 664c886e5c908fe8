"""The handshake pattern XX of the Noise framework, with X25519, ChaCha20-Poly1305 and SHA-256: messages in and out.

    -> e
    <- e, ee, s, es
    -> s, se

This is plain Noise, as any of its users has it; what libp2p puts around and into it is in `noise`. Randomness comes in
as the two private keys.

Spec: https://noiseprotocol.org/noise.html (revision 34), sections 5 and 7.5
"""

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ipvcs.node.network.errors import HandshakeError

PROTOCOL_NAME: Final = b"Noise_XX_25519_ChaChaPoly_SHA256"
KEY_LENGTH: Final = 32
TAG_LENGTH: Final = 16

# Who writes each message and what is in it. `es` mixes the initiator's ephemeral with the responder's static key,
# whoever computes it; the first letter is always the initiator's (section 7.1).
_PATTERN: Final = (("e",), ("e", "ee", "s", "es"), ("s", "se"))


class NoiseXX:
    """One side of the handshake: `write` and `read` three messages in turn, the initiator writes first.

    After an error the object is of no use. Messages here have no length prefix.
    """

    def __init__(
        self, *, initiator: bool, static: X25519PrivateKey, ephemeral: X25519PrivateKey, prologue: bytes = b""
    ) -> None:
        self.initiator: Final = initiator
        self._private: Final = {"s": static, "e": ephemeral}
        self._public: Final = {name: key.public_key().public_bytes_raw() for name, key in self._private.items()}
        self._remote: dict[str, X25519PublicKey] = {}
        self._turn = 0
        # The name has exactly the length of a hash, so it is taken as it is (section 5.2, InitializeSymmetric).
        assert len(PROTOCOL_NAME) == hashlib.sha256().digest_size
        self._hash = self._chaining_key = PROTOCOL_NAME
        self._cipher: ChaCha20Poly1305 | None = None
        self._nonce = 0
        self._mix_hash(prologue)

    @property
    def writes_next(self) -> bool:
        """Whether the next message is ours to write."""
        return not self.finished and (self._turn % 2 == 0) == self.initiator

    @property
    def finished(self) -> bool:
        """Whether all three messages are through."""
        return self._turn == len(_PATTERN)

    @property
    def handshake_hash(self) -> bytes:
        """The hash over all that went either way: names this session (section 11.2, channel binding)."""
        return self._hash

    @property
    def remote_static(self) -> bytes | None:
        """The peer's static key, once it has been read."""
        key = self._remote.get("s")
        return None if key is None else key.public_bytes_raw()

    def write(self, payload: bytes = b"") -> bytes:
        """Return the next message, with `payload` in it: in clear in the first, encrypted in the others."""
        assert self.writes_next
        message = bytearray()
        for step in _PATTERN[self._turn]:
            if step == "e":
                message += self._public["e"]
                self._mix_hash(self._public["e"])
            elif step == "s":
                message += self._encrypt_and_hash(self._public["s"])
            else:
                self._mix_secret(step)
        message += self._encrypt_and_hash(payload)
        self._turn += 1
        return bytes(message)

    def read(self, message: bytes) -> bytes:
        """Take the peer's next message and return the payload in it.

        Raises:
            HandshakeError: too short, forged, or with a public key of low order.
        """
        assert not self.writes_next
        assert not self.finished
        position = 0
        for step in _PATTERN[self._turn]:
            if step not in ("e", "s"):
                self._mix_secret(step)
                continue
            end = position + KEY_LENGTH + (TAG_LENGTH if self._cipher else 0)
            if end > len(message):
                raise HandshakeError(f"noise message {self._turn + 1} is cut short: {len(message)} bytes")
            raw = message[position:end]
            if step == "e":
                self._mix_hash(raw)
            else:
                raw = self._decrypt_and_hash(raw)
            self._remote[step] = X25519PublicKey.from_public_bytes(raw)
            position = end
        payload = self._decrypt_and_hash(message[position:])
        self._turn += 1
        return payload

    def split(self) -> tuple[ChaCha20Poly1305, ChaCha20Poly1305]:
        """Return the ciphers of the finished handshake: what the initiator sends with, and the responder."""
        assert self.finished
        first, second = self._hkdf(b"")
        return ChaCha20Poly1305(first), ChaCha20Poly1305(second)

    def _mix_secret(self, step: str) -> None:
        mine, theirs = (step[0], step[1]) if self.initiator else (step[1], step[0])
        try:
            secret = self._private[mine].exchange(self._remote[theirs])
        except ValueError:  # the secret would be zero, known to anybody
            raise HandshakeError("noise handshake has a public key of low order") from None
        self._chaining_key, key = self._hkdf(secret)
        self._cipher, self._nonce = ChaCha20Poly1305(key), 0

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _hkdf(self, key_material: bytes) -> tuple[bytes, bytes]:
        """Section 4.3, HKDF with two outputs."""
        secret = hmac.digest(self._chaining_key, key_material, "sha256")
        first = hmac.digest(secret, b"\x01", "sha256")
        return first, hmac.digest(secret, first + b"\x02", "sha256")

    def _encrypt_and_hash(self, plaintext: bytes) -> bytes:
        sealed = plaintext
        if self._cipher is not None:
            sealed = self._cipher.encrypt(_nonce_bytes(self._nonce), plaintext, self._hash)
            self._nonce += 1
        self._mix_hash(sealed)
        return sealed

    def _decrypt_and_hash(self, sealed: bytes) -> bytes:
        plaintext = sealed
        if self._cipher is not None:
            try:
                plaintext = self._cipher.decrypt(_nonce_bytes(self._nonce), sealed, self._hash)
            except InvalidTag:
                raise HandshakeError(f"noise message {self._turn + 1} does not decrypt: it was altered") from None
            self._nonce += 1
        self._mix_hash(sealed)
        return plaintext


def _nonce_bytes(counter: int) -> bytes:
    """Return a nonce as ChaCha20-Poly1305 takes it: four zero bytes, then the counter, little endian (section 12.3)."""
    return (counter << 32).to_bytes(12, "little")
