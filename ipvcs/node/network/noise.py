"""Noise: the security protocol that every libp2p node speaks. Mutual, forward secret, three messages.

Every message, of the handshake and after it, has two bytes of length in front. The payloads of the second and third
message carry the long-lived key, its signature over the X25519 key that Noise proves, and the muxers a side would use;
when both name some, the first of the initiator's that the responder has is used without asking again.

Not done here: the other patterns (XX is the only one libp2p uses), and early data.

Spec: https://github.com/libp2p/specs/blob/master/noise/README.md
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ipvcs.errors import DecodeError, IntegrityError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey, PublicKey
from ipvcs.node.network.errors import HandshakeError, PeerMismatchError, SecurityError
from ipvcs.node.network.interface import Buffer
from ipvcs.node.network.noise_payload import NoisePayload
from ipvcs.node.network.noise_xx import TAG_LENGTH, NoiseXX
from ipvcs.node.network.security import Secured

MAX_PLAINTEXT: Final = 65535 - TAG_LENGTH
"""Bytes in one message: its length is two bytes and counts the tag."""
MAX_HANDSHAKE_MESSAGE: Final = 16 * 1024
"""Ours; Noise would allow 65,535. An RSA-8192 key with its signature is 2.1 KiB, a hundred muxers 4 KiB more."""
MAX_MUXERS: Final = 100
"""As go-libp2p: longer lists are ignored."""

_LENGTH: Final = 2
_OVERHEAD: Final = _LENGTH + TAG_LENGTH
_SIGNATURE_PREFIX: Final = b"noise-libp2p-static-key:"
_LAST_NONCE: Final = (1 << 64) - 2
"""2^64-1 is reserved (Noise, section 5.1). Nobody gets there; wrapping round would repeat nonces, so it is checked."""


class NoiseSecurity:
    """`/noise` for one node; see `SecurityProtocol`. `generate` makes X25519 keys: at once the static one, which
    serves all handshakes and is signed once, then an ephemeral one for each handshake.
    """

    protocol_id: Final = "/noise"

    def __init__(
        self,
        private_key: PrivateKey,
        muxers: Sequence[str] = (),
        *,
        generate: Callable[[], X25519PrivateKey] = X25519PrivateKey.generate,
    ) -> None:
        assert len(muxers) <= MAX_MUXERS
        self._generate = generate
        self._static = generate()
        self._muxers = tuple(muxers)
        signature = private_key.sign(_SIGNATURE_PREFIX + self._static.public_key().public_bytes_raw())
        self._payload = NoisePayload(private_key.public_key.encode(), signature, self._muxers).encode()

    def start(self, *, initiator: bool, expected: PeerId | None) -> "NoiseHandshake":
        """Begin a handshake; an initiator has `data_to_send` at once."""
        noise = NoiseXX(initiator=initiator, static=self._static, ephemeral=self._generate())
        return NoiseHandshake(noise, self._payload, self._muxers, expected)


class NoiseHandshake:
    """One side of a handshake; see `SecureHandshake`. Nothing but the public keys is sent to a peer that failed."""

    def __init__(self, noise: NoiseXX, payload: bytes, muxers: Sequence[str], expected: PeerId | None) -> None:
        self._noise = noise
        self._payload = payload
        self._muxers = muxers
        self._expected = expected
        self._peer: tuple[PeerId, PublicKey, str | None] | None = None
        self._received = bytearray()
        self._to_send = bytearray()
        self._failed = False
        self._result: Secured | None = None
        if noise.writes_next:
            self._queue(noise.write())

    def receive_data(self, data: Buffer) -> None:
        """Take bytes from the peer. Raises HandshakeError, PeerMismatchError; see `SecureHandshake`."""
        if self._failed:
            raise HandshakeError("noise handshake failed before")
        self._received += data
        self._failed = True  # until this step is through
        while self._result is None and (message := self._next_message()) is not None:
            self._step(message)
        self._failed = False

    def data_to_send(self) -> bytes:
        """Return the bytes owed to the peer, and forget them."""
        data = bytes(self._to_send)
        self._to_send.clear()
        return data

    @property
    def result(self) -> Secured | None:
        """The outcome, once the peer has proved its id."""
        return self._result

    @property
    def rest(self) -> bytes:
        """Bytes received behind the handshake."""
        return b"" if self._result is None else bytes(self._received)

    def _next_message(self) -> bytes | None:
        if len(self._received) < _LENGTH:
            return None
        length = int.from_bytes(self._received[:_LENGTH])
        if length > MAX_HANDSHAKE_MESSAGE:
            raise HandshakeError(f"noise handshake message of {length} bytes is over {MAX_HANDSHAKE_MESSAGE}")
        end = _LENGTH + length
        if len(self._received) < end:
            return None
        message = bytes(self._received[_LENGTH:end])
        del self._received[:end]
        return message

    def _step(self, message: bytes) -> None:
        """Read one message, and write the one that it calls for."""
        payload = self._noise.read(message)
        # What the first message may carry is sent by nobody and is not protected: ignored, as go-libp2p does.
        if self._noise.remote_static is not None:
            self._peer = self._authenticate(payload, self._noise.remote_static)
        if self._noise.writes_next:
            self._queue(self._noise.write(self._payload))
        if self._noise.finished:
            assert self._peer is not None
            sending, receiving = self._noise.split()
            if not self._noise.initiator:
                sending, receiving = receiving, sending
            self._result = Secured(NoiseChannel(sending, receiving), *self._peer)

    def _authenticate(self, data: bytes, static: bytes) -> tuple[PeerId, PublicKey, str | None]:
        """Return who the peer is, if it proves that, and the muxer to use."""
        try:
            payload = NoisePayload.decode(data)
            key = PublicKey.decode(payload.identity_key)
            key.verify(_SIGNATURE_PREFIX + static, payload.signature)
        except (DecodeError, IntegrityError) as exc:
            raise HandshakeError(f"the peer did not prove its id in the noise handshake: {exc}") from exc
        if self._expected is not None and key.peer_id != self._expected:
            raise PeerMismatchError(self._expected, key.peer_id)
        return key.peer_id, key, self._choose_muxer(payload.muxers)

    def _choose_muxer(self, theirs: Sequence[str]) -> str | None:
        if not self._muxers or not theirs or len(theirs) > MAX_MUXERS:
            return None
        first, second = (self._muxers, theirs) if self._noise.initiator else (theirs, self._muxers)
        for muxer in first:
            if muxer in second:
                return muxer
        # "If there's no overlap between the supported sets of muxers, the handshake process MUST fail."
        raise HandshakeError(f"no common muxer: we have {', '.join(self._muxers)}, the peer {', '.join(theirs[:8])}")

    def _queue(self, message: bytes) -> None:
        self._to_send += len(message).to_bytes(_LENGTH) + message


class NoiseChannel:
    """The two ciphers after a handshake; see `SecureChannel`. A message that is forged, replayed or out of turn does
    not decrypt under the nonce that is due, and ends the channel.
    """

    __slots__ = ("_failure", "_receive_nonce", "_receiving", "_send_nonce", "_sending")

    ended = False
    """Noise has no word for the end: the connection just closes, and the muxer says goodbye before."""

    def __init__(self, sending: ChaCha20Poly1305, receiving: ChaCha20Poly1305) -> None:
        self._sending = sending
        self._receiving = receiving
        self._send_nonce = 0
        self._receive_nonce = 0
        self._failure: str | None = None

    def seal(self, parts: Iterable[Buffer]) -> bytearray:
        """Return messages with the concatenation of `parts`, in one buffer; without parts, nothing.

        Raises:
            SecurityError: the channel failed before, or its nonces are used up.
        """
        if self._failure is not None:
            raise SecurityError(self._failure)
        messages, size = _group(parts)
        out = bytearray(size + len(messages) * _OVERHEAD)
        nonce = self._send_nonce
        if nonce + len(messages) - 1 > _LAST_NONCE:
            raise SecurityError("noise channel has used up its nonces")
        self._send_nonce = nonce + len(messages)  # before the first use: none is ever used twice
        encrypt = self._sending.encrypt_into
        position = 0
        with memoryview(out) as view:
            for message in messages:
                # The cipher takes one piece. Joining is the one copy, and a part that fills a message has none.
                plaintext = message[0] if len(message) == 1 else b"".join(message)
                length = len(plaintext) + TAG_LENGTH
                start = position + _LENGTH
                position = start + length
                out[start - 2] = length >> 8
                out[start - 1] = length & 0xFF
                encrypt((nonce << 32).to_bytes(12, "little"), plaintext, None, view[start:position])
                nonce += 1
        return out

    def open(self, data: memoryview) -> tuple[list[Buffer], int]:
        """Return the plaintext of the whole messages in `data` and the bytes they take, as `SecureChannel` says.

        When good messages precede a bad one, they are returned, and the error is raised by the next call.

        Raises:
            SecurityError: a message that is not the peer's next one, or the channel failed before.
        """
        if self._failure is not None:
            raise SecurityError(self._failure)
        pieces: list[Buffer] = []
        decrypt = self._receiving.decrypt
        nonce = self._receive_nonce
        size = len(data)
        position = 0
        start = _LENGTH
        while start <= size:
            end = start + (data[position] << 8 | data[position + 1])
            if end - start < TAG_LENGTH:
                self._failure = f"noise message of {end - start} bytes is shorter than its tag"
                break
            if end > size:
                break
            if nonce > _LAST_NONCE:
                self._failure = "noise channel has used up its nonces"
                break
            try:
                # A `bytes` of its own each: as fast as decrypting into one large buffer, and freed one by one.
                plaintext = decrypt((nonce << 32).to_bytes(12, "little"), data[start:end], None)
            except InvalidTag:
                self._failure = "noise message does not decrypt: it was altered, repeated or reordered"
                break
            nonce += 1
            if plaintext:
                pieces.append(plaintext)
            position = end
            start = end + _LENGTH
        self._receive_nonce = nonce
        if self._failure is None:
            return pieces, position
        if pieces:
            return pieces, size  # what follows is not looked at any more
        raise SecurityError(self._failure)

    def close(self) -> bytes:
        """Return nothing: Noise has no last word."""
        return b""


def _group(parts: Iterable[Buffer]) -> tuple[list[list[Buffer]], int]:
    """Return the messages, each as the parts that make it up, and how many bytes they hold together.

    A part is put whole into the message at hand or, if it does not fit, the next; only one that is larger than a
    message is split.
    """
    messages: list[list[Buffer]] = []
    total = 0
    room = 0
    for part in parts:
        size = len(part)
        total += size
        if size > MAX_PLAINTEXT:
            view = memoryview(part)
            messages.extend([view[start : start + MAX_PLAINTEXT]] for start in range(0, size, MAX_PLAINTEXT))
            room = -size % MAX_PLAINTEXT
        elif size > room:
            messages.append([part])
            room = MAX_PLAINTEXT - size
        elif size:
            messages[-1].append(part)
            room -= size
    return messages, total
