"""What a security protocol is to the rest of the network: a handshake, and then a cipher. Both are pure.

A `SecureHandshake` proves both sides' ids; when it is done it gives a `SecureChannel` that turns plaintext into what
goes on the wire and back. Noise and TLS are the two; both are driven with bytes alone, so a test needs no socket.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PublicKey
from ipvcs.node.network.interface import Buffer


class SecureChannel(Protocol):
    """The cipher of one connection, both directions."""

    def seal(self, parts: Iterable[Buffer]) -> Buffer:
        """Return what to send for the concatenation of `parts`. Noise never splits a part that fits one of its
        messages, so a muxer's frame that was cut to fit costs one; TLS cuts records of 16 KiB wherever they end.
        """

    def open(self, data: memoryview) -> tuple[list[Buffer], int]:
        """Return the plaintext in `data`, in pieces that own their bytes, and how much of `data` is used up.

        `data` starts with what the last call left unused; a bounded rest, less than one message, is left when a message
        is not complete. After an error nothing more may be opened.

        Raises:
            SecurityError: forged, replayed, reordered or oversized messages. Good ones before a bad one are returned
                first; then the next `open`, or any `seal`, raises.
        """

    @property
    def ended(self) -> bool:
        """Whether the peer said that nothing follows (TLS's close_notify; Noise has no such word)."""

    def close(self) -> Buffer:
        """Return the last bytes to send, maybe none: our word that nothing follows."""


@dataclass(frozen=True, slots=True)
class Secured:
    """A finished handshake."""

    channel: SecureChannel
    remote_peer: PeerId
    remote_key: PublicKey
    muxer: str | None
    """The muxer both sides agreed on during the handshake; None: negotiate one inside the channel."""


class SecureHandshake(Protocol):
    """One side of a handshake, as a state machine."""

    def receive_data(self, data: Buffer) -> None:
        """Buffer bytes from the peer; then ask for the `result` and send `data_to_send`.

        Raises:
            HandshakeError: the peer broke the protocol or did not prove an id.
            PeerMismatchError: it is not the peer we dialled.
            In both cases send `data_to_send()` (an alert, maybe) and close.
        """

    def data_to_send(self) -> bytes:
        """Return the bytes owed to the peer, maybe none, and forget them. Call it at the start, too: dialers begin."""

    @property
    def result(self) -> Secured | None:
        """The outcome once the peer has proved its id, else None. `data_to_send` may still have bytes to send."""

    @property
    def rest(self) -> bytes:
        """Bytes received behind the handshake, still encrypted: the channel's first input."""


class SecurityProtocol(Protocol):
    """Makes handshakes; one object a node, its id and keys inside."""

    @property
    def protocol_id(self) -> str:
        """As multistream-select names it."""

    def start(self, *, initiator: bool, expected: PeerId | None) -> SecureHandshake:
        """Begin a handshake. `expected` is the peer that was dialled, None when any will do."""
