"""Errors that several files of the network raise. All others are beside the code that raises them."""

from collections.abc import Sequence

from ipvcs.errors import ConflictError, IntegrityError, NotFoundError, RemoteProtocolError, UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId


class DialError(UnavailableError):
    """A dial failed. `attempts` says what was tried and why each failed."""

    def __init__(
        self, message: str, attempts: Sequence[tuple[Multiaddr, str]] = (), *, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.attempts = tuple(attempts)


class ListenError(ConflictError):
    """An address can't be listened on."""

    def __init__(self, addr: Multiaddr, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"cannot listen on '{addr}': {reason}", hint=hint)
        self.addr = addr


class HandshakeError(RemoteProtocolError):
    """The peer broke the security handshake, or could not prove who it is."""


class SecurityError(RemoteProtocolError):
    """The peer broke the encrypted channel: something forged, replayed, reordered or oversized. The channel is dead."""


class PeerMismatchError(IntegrityError):
    """Somebody else answered than was dialled (white paper §3.1: `hash(other.PublicKey) == other.NodeId`)."""

    def __init__(self, expected: PeerId, actual: PeerId) -> None:
        super().__init__(f"dialled '{expected}', but '{actual}' answered")
        self.expected = expected
        self.actual = actual


class ProtocolNotSupportedError(NotFoundError):
    """The peer speaks none of the protocols we asked for."""

    def __init__(self, protocols: Sequence[str]) -> None:
        super().__init__(f"the peer does not speak {' or '.join(protocols)}")
        self.protocols = tuple(protocols)


class GatedError(UnavailableError):
    """Our own rules forbid this peer or address."""
