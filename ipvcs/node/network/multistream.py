"""multistream-select 1.0: how two sides agree on the protocol of a connection or a stream. Pure.

Both sides send a header at once. The initiator proposes protocols one after the other on the same stream; the responder
echoes the one it speaks and refuses the others with `na`:

    initiator                       responder
    /multistream/1.0.0          ->
    /tls/1.0.0                  ->
                                <-  /multistream/1.0.0
                                <-  na
    /noise                      ->
                                <-  /noise
    (what was agreed on follows, both ways)

A message is a varint length, a text and a newline that counts. Everything here works with the initiator's header,
proposal and first data in one packet, or split at any byte; what lies behind the negotiation is in `rest`.

Not done, on purpose: `ls`, which go-multistream dropped (it is refused like any unknown protocol), and the
simultaneous-open extension, which libp2p deprecated.

Spec: https://github.com/multiformats/multistream-select and
https://github.com/libp2p/specs/blob/master/connections/README.md#multistream-select
"""

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Final

from ipvcs.errors import LocalProtocolError, RemoteProtocolError
from ipvcs.multiformats import varint
from ipvcs.node.network.errors import ProtocolNotSupportedError
from ipvcs.node.network.interface import Buffer

PROTOCOL_ID: Final = "/multistream/1.0.0"
MAX_MESSAGE: Final = 1024
"""Bytes of a message's text with its newline: go-multistream refuses longer ones. Bounds what we buffer, too."""
MAX_PROPOSALS: Final = 64
"""How often a responder says `na`. An initiator of this network knows at most a handful of versions of a protocol."""


class NegotiationError(RemoteProtocolError):
    """The peer does not speak multistream-select, or speaks it wrong."""


@lru_cache(maxsize=1024)  # asked for our own protocols only, so the peers can't churn it
def encode_message(text: str) -> bytes:
    """Return the message that carries `text`.

    Raises:
        LocalProtocolError: `text` is too long or has a newline.
    """
    line = text.encode() + b"\n"
    if len(line) > MAX_MESSAGE or b"\n" in line[:-1]:
        raise LocalProtocolError(f"cannot propose the protocol '{text[:64]}': newline inside, or too long")
    return varint.encode(len(line)) + line


HEADER: Final = encode_message(PROTOCOL_ID)
NOT_AVAILABLE: Final = encode_message("na")


@lru_cache(maxsize=1024)
def _opening(protocol: str) -> bytes:
    """The header with a message behind: what an initiator begins with, and the answer of a responder that agrees."""
    return HEADER + encode_message(protocol)


class Initiator:
    """Proposes protocols in order of preference until one is taken."""

    __slots__ = ("_agreement", "_buffer", "_next", "_outbox", "_protocols", "rest", "result")

    def __init__(self, protocols: Sequence[str]) -> None:
        """Begin: `data_to_send` has the header and the first proposal.

        Raises:
            LocalProtocolError: `protocols` is empty, or one of them can't be written.
        """
        if not protocols:
            raise LocalProtocolError("no protocol to propose")
        self._protocols = protocols
        self._next = 1
        self._outbox = self._agreement = _opening(protocols[0])
        self._buffer = b""
        self.result: str | None = None
        """What was agreed on; None while that is open."""
        self.rest = b""
        """Bytes received behind the negotiation: the protocol's first input."""

    def receive_data(self, data: Buffer) -> None:
        """Take bytes from the peer; then look at `result`, and send `data_to_send`.

        Raises:
            ProtocolNotSupportedError: the peer refused all proposals.
            NegotiationError: the peer broke the protocol. After either, the stream is of no more use.
        """
        if self.result is not None:
            self.rest += data
            return
        buffer = self._buffer + data
        # One comparison is all that the usual case takes. Both begin with the header, or after a refusal neither does.
        while not buffer.startswith(self._agreement):
            if self._agreement.startswith(buffer):
                self._buffer = buffer  # agreement so far
                return
            answer = 0
            if self._next == 1:
                if not _is_greeted(buffer):
                    self._buffer = buffer
                    return
                answer = len(HEADER)
            if (message := _read_message(buffer, answer)) is None:
                self._buffer = buffer
                return
            text, end = message
            if text != b"na":
                raise NegotiationError(
                    f"cannot negotiate: answered {text[:64]!r} to '{self._protocols[self._next - 1]}'"
                )
            buffer = buffer[end:]
            self._propose()
        self._buffer = b""
        self.rest = buffer[len(self._agreement) :]
        self.result = self._protocols[self._next - 1]

    def data_to_send(self) -> bytes:
        """Return what is owed to the peer, maybe nothing, and forget it."""
        data, self._outbox = self._outbox, b""
        return data

    def _propose(self) -> None:
        if self._next == len(self._protocols):
            raise ProtocolNotSupportedError(self._protocols)
        self._agreement = encode_message(self._protocols[self._next])
        self._outbox += self._agreement
        self._next += 1


class LazyInitiator:
    """Proposes the one protocol that the peer is known to speak, and does not wait for the answer.

    `opening` goes in front of the first data. The answer is in front of what the peer sends, and must be taken out of
    it even when nobody wants to read: `receive_data` does, and has the rest in `rest`.
    """

    __slots__ = ("_initiator", "opening")

    def __init__(self, protocol: str) -> None:
        """Begin. Raises LocalProtocolError when `protocol` can't be written."""
        self._initiator = Initiator((protocol,))
        self.opening: Final = self._initiator.data_to_send()
        """The header and the proposal."""

    def receive_data(self, data: Buffer) -> None:
        """Take bytes from the peer, until `done`. Raises as `Initiator.receive_data`."""
        self._initiator.receive_data(data)

    @property
    def done(self) -> bool:
        """Whether the peer agreed."""
        return self._initiator.result is not None

    @property
    def rest(self) -> bytes:
        """Bytes received behind the answer."""
        return self._initiator.rest


class Responder:
    """Takes the first proposal that is supported and refuses the others.

    An initiator that ended its side after a pipelined proposal is answered like any other: what `data_to_send` has is
    to be sent after an end of input, too.
    """

    __slots__ = ("_buffer", "_greeted", "_outbox", "_refusals", "_supports", "rest", "result")

    def __init__(self, supported: Callable[[str], bool] | Collection[str]) -> None:
        """Begin: `data_to_send` has the header, which may wait for the first proposal to share its answer's packet on
        a stream that the initiator's own header opened; elsewhere send it at once.
        """
        self._supports = supported if callable(supported) else supported.__contains__
        self._buffer = b""
        self._outbox = HEADER
        self._greeted = False
        self._refusals = 0
        self.result: str | None = None
        """What was agreed on; None while that is open."""
        self.rest = b""
        """Bytes received behind the negotiation: the protocol's first input."""

    def receive_data(self, data: Buffer) -> None:
        """Take bytes from the peer; then send `data_to_send`, and look at `result`.

        Raises:
            NegotiationError: the peer broke the protocol, or proposes without end. The stream is of no more use.
        """
        if self.result is not None:
            self.rest += data
            return
        self._buffer = buffer = self._buffer + data
        start = 0
        if not self._greeted:
            if not _is_greeted(buffer):
                return
            self._greeted = True
            start = len(HEADER)
        while (message := _read_message(buffer, start)) is not None:
            text, end = message
            protocol = text.decode(errors="replace")  # what is not UTF-8 is no name of ours: refused like others
            if self._supports(protocol):
                self._outbox += buffer[start:end]
                self._buffer = b""
                self.rest = buffer[end:]
                self.result = protocol
                return
            self._refusals += 1
            if self._refusals > MAX_PROPOSALS:
                raise NegotiationError(f"cannot negotiate: {self._refusals} proposals and none that we speak")
            self._outbox += NOT_AVAILABLE
            start = end
        self._buffer = buffer[start:]

    def data_to_send(self) -> bytes:
        """Return what is owed to the peer, maybe nothing, and forget it."""
        data, self._outbox = self._outbox, b""
        return data


def _is_greeted(buffer: bytes) -> bool:
    """Tell whether the whole header is there. Raises at the first byte that is not it, not when we have waited in vain
    for as many bytes as, say, the first letter of an HTTP request announces.
    """
    if buffer.startswith(HEADER):
        return True
    if HEADER.startswith(buffer):
        return False
    raise NegotiationError(
        "cannot negotiate: the peer does not speak multistream-select",
        hint="check that the port belongs to a libp2p node",
    )


def _read_message(buffer: bytes, start: int) -> tuple[bytes, int] | None:
    """Return the text of the message at byte `start`, without its newline, and the message's end; None: incomplete."""
    available = len(buffer) - start
    if not available:
        return None
    size = buffer[start]
    start += 1
    if size >= 0x80:  # two bytes hold any size up to the bound
        if available < 2:
            return None
        high = buffer[start]
        size = size & 0x7F | high << 7
        start += 1
        if high == 0:
            raise NegotiationError("cannot negotiate: a message's length is not minimal")
        if size > MAX_MESSAGE:  # and so is a length of three bytes or more
            raise NegotiationError(f"cannot negotiate: a message has more than {MAX_MESSAGE} bytes")
    if size == 0:
        raise NegotiationError("cannot negotiate: a message is empty")
    end = start + size
    if end > len(buffer):
        return None
    if buffer[end - 1] != 0x0A:
        raise NegotiationError("cannot negotiate: a message does not end in a newline")
    return buffer[start : end - 1], end
