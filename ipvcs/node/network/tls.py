"""TLS 1.3 as libp2p uses it: both sides show a self-signed certificate with an extension that proves the peer id.

OpenSSL does the protocol, between two buffers in memory: bytes in, bytes out, as with Noise. What is ours: the
certificates (`tls_certificate`), the choice of the muxer by ALPN, and bounds. Records are handed to OpenSSL one by one
during the handshake, so that it holds nothing that came behind it.

A client is done when it has sent its certificate, before the server looked at it: if the server refuses, its alert is
what the client's channel opens first. Sessions are never resumed: a resumed one would show no certificate.

Spec: https://github.com/libp2p/specs/blob/master/tls/tls.md
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, X509, dump_certificate

from ipvcs.errors import LocalProtocolError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey, PublicKey
from ipvcs.node.network.errors import HandshakeError, PeerMismatchError, SecurityError
from ipvcs.node.network.interface import Buffer
from ipvcs.node.network.security import Secured
from ipvcs.node.network.tls_certificate import CertificateError, make_certificate, verify_certificate

MAX_HANDSHAKE: Final = 64 * 1024
"""Bytes that a peer may send before it has proved its id. Two kilobytes are usual, 6 KiB with RSA-8192 keys."""
MAX_RECORD: Final = 16384 + 256
"""Bytes behind a record's header (RFC 8446, section 5.2)."""
PIECE: Final = 32 * 1024
"""Bytes passed through OpenSSL's buffers at a time: they never shrink again, and each connection has two."""

MAX_OWED: Final = 64 * 1024
"""Bytes of answers that wait for our next words. A peer may ask for new keys, 27 bytes each time, as often as it likes,
and OpenSSL answers each time: beyond this it is not a peer that only follows RFC 8446, section 5.5."""

_ALPN_NONE: Final = b"libp2p"
"""No muxer chosen; always the last of the list."""
_RECORD_HEADER: Final = 5
_RECORD_TYPES: Final = range(20, 24)  # change_cipher_spec, alert, handshake, application_data
_MAX_PLAINTEXT: Final = 16384
_CIPHERS: Final = b"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
"""All three of RFC 8446 in Go's order. OpenSSL's own begins with AES-256, a quarter slower and no safer here."""


def _generate_p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _utc_now() -> datetime:
    return datetime.now(UTC)


class TlsSecurity:
    """`/tls/1.0.0` for one node; see `SecurityProtocol`. One certificate and one OpenSSL context serve all connections.

    `generate` makes the certificate's key, `clock` tells the time for the peers' certificates' validity.
    """

    protocol_id: Final = "/tls/1.0.0"

    def __init__(
        self,
        private_key: PrivateKey,
        muxers: Sequence[str] = (),
        *,
        generate: Callable[[], ec.EllipticCurvePrivateKey] = _generate_p256,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._clock = clock
        self._protocols = [*(muxer.encode() for muxer in muxers), _ALPN_NONE]
        key = generate()
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_tls13_ciphersuites(_CIPHERS)
        context.use_certificate(make_certificate(private_key, key))
        context.use_privatekey(key)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _on_certificate)
        context.set_alpn_protos(self._protocols)
        context.set_alpn_select_callback(_on_alpn)
        # Together they take all use from the tickets that a server sends (pyOpenSSL can't stop it): they name sessions
        # that it did not keep.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection holds no record buffers, 32 KiB
        self._context = context

    def start(self, *, initiator: bool, expected: PeerId | None) -> "TlsHandshake":
        """Begin a handshake; an initiator, the TLS client, has `data_to_send` at once."""
        connection = SSL.Connection(self._context)
        if initiator:
            connection.set_connect_state()
        else:
            connection.set_accept_state()
        return TlsHandshake(connection, _Judge(expected, self._protocols, self._clock), initiator=initiator)


class _Judge:
    """What OpenSSL asks us about one connection while it shakes hands, and what we found."""

    def __init__(self, expected: PeerId | None, protocols: Sequence[bytes], clock: Callable[[], datetime]) -> None:
        self._expected = expected
        self._clock = clock
        self.protocols = protocols
        self.key: PublicKey | None = None
        self.failure: HandshakeError | PeerMismatchError | None = None

    def accepts(self, certificate: X509, depth: int) -> bool:
        """Tell whether the certificate proves an id, and the one we dialled. OpenSSL asks more than once."""
        if self.key is None and self.failure is None:
            try:
                if depth:
                    raise CertificateError("it is not self-signed")
                self.key = self._authenticate(certificate)
            except (HandshakeError, PeerMismatchError) as exc:
                self.failure = exc
        return self.failure is None

    def select(self, offered: Sequence[bytes]) -> bytes:
        """Return the first protocol of the client's that we have, too."""
        for protocol in offered:
            if protocol in self.protocols:
                return protocol
        names = ", ".join(protocol.decode(errors="backslashreplace")[:40] for protocol in offered[:8])
        self.failure = HandshakeError(f"the peer asks for none of our muxers in TLS, but for {names}")
        raise self.failure

    def _authenticate(self, certificate: X509) -> PublicKey:
        key = verify_certificate(dump_certificate(FILETYPE_ASN1, certificate), self._clock())
        if self._expected is not None and key.peer_id != self._expected:
            raise PeerMismatchError(self._expected, key.peer_id)
        return key


def _on_certificate(connection: SSL.Connection, certificate: X509, _error: int, depth: int, _ok: int) -> bool:
    """Answer OpenSSL, which by itself would refuse whatever no authority signed."""
    judge = connection.get_app_data()
    assert isinstance(judge, _Judge)
    return judge.accepts(certificate, depth)


def _on_alpn(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    """Answer OpenSSL; what is raised makes it abort with the alert no_application_protocol."""
    judge = connection.get_app_data()
    assert isinstance(judge, _Judge)
    return judge.select(offered)


class TlsHandshake:
    """One side of a handshake; see `SecureHandshake`."""

    def __init__(self, connection: SSL.Connection, judge: _Judge, *, initiator: bool) -> None:
        self._connection = connection
        self._judge = judge
        self._initiator = initiator
        self._received = bytearray()
        self._handled = 0
        self._to_send = bytearray()
        self._failed = False
        self._result: Secured | None = None
        connection.set_app_data(judge)
        if initiator:
            self._advance()

    def receive_data(self, data: Buffer) -> None:
        """Take bytes from the peer. Raises HandshakeError, PeerMismatchError; see `SecureHandshake`."""
        if self._failed:
            raise HandshakeError("TLS handshake failed before")
        self._received += data
        self._failed = True  # until this step is through
        while self._result is None and (record := self._next_record()) is not None:
            self._connection.bio_write(record)
            self._advance()
        self._failed = False

    def data_to_send(self) -> bytes:
        """Return the bytes owed to the peer, and forget them; after an error, an alert."""
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

    def _next_record(self) -> bytes | None:
        if not self._received:
            return None
        if self._received[0] not in _RECORD_TYPES:
            raise HandshakeError("the peer does not speak TLS")
        if len(self._received) < _RECORD_HEADER:
            return None
        length = int.from_bytes(self._received[3:_RECORD_HEADER])
        if length > MAX_RECORD:
            raise HandshakeError(f"TLS record of {length} bytes is over {MAX_RECORD}")
        end = _RECORD_HEADER + length
        if self._handled + end > MAX_HANDSHAKE:
            raise HandshakeError(f"TLS handshake takes over {MAX_HANDSHAKE} bytes")
        if len(self._received) < end:
            return None
        record = bytes(self._received[:end])
        del self._received[:end]
        self._handled += end
        return record

    def _advance(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._to_send += _drain(self._connection)
            return
        except (SSL.Error, HandshakeError) as exc:
            self._to_send += _drain(self._connection)
            # The reason that we know is better than OpenSSL's "certificate verify failed".
            raise self._judge.failure or HandshakeError(f"TLS handshake failed: {_reason(exc)}") from exc
        self._result = self._finish()
        self._to_send += _drain(self._connection)

    def _finish(self) -> Secured:
        """Return the result of the finished handshake. If it raises, our last flight is never sent."""
        key = self._judge.key
        assert key is not None  # VERIFY_FAIL_IF_NO_PEER_CERT, and sessions are not resumed
        # Of what the client sent, OpenSSL's list for the server leaves out the first.
        chain = len(self._connection.get_peer_cert_chain() or ()) + (0 if self._initiator else 1)
        if chain != 1:
            raise HandshakeError(f"the peer sent {chain} TLS certificates instead of one")
        chosen = self._connection.get_alpn_proto_negotiated()
        if chosen and chosen not in self._judge.protocols:
            raise HandshakeError("the peer chose a muxer that was not offered")
        self._connection.set_app_data(None)
        muxer = chosen.decode() if chosen not in (b"", _ALPN_NONE) else None
        return Secured(TlsChannel(self._connection), key.peer_id, key, muxer)


class TlsChannel:
    """A connection after its handshake; see `SecureChannel`.

    A record carries 16 KiB, fewer than a muxer's usual frame: parts are joined, and cut wherever a record is full.
    """

    __slots__ = ("_closed", "_connection", "_ended", "_failure", "_heard", "_overhead", "_owed")

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection
        self._ended = False
        self._closed = False
        self._failure: str | None = None
        self._heard = False
        self._overhead = 0  # bytes received that were not data, so more than OpenSSL can have answered to
        self._owed = b""

    @property
    def ended(self) -> bool:
        """Whether the peer sent close_notify."""
        return self._ended

    def seal(self, parts: Iterable[Buffer]) -> bytes:
        """Return records with the concatenation of `parts`, behind whatever OpenSSL itself has to say.

        Raises:
            SecurityError: the channel failed before.
            LocalProtocolError: it was closed.
        """
        if self._failure is not None:
            raise SecurityError(self._failure)
        if self._closed:
            raise LocalProtocolError("TLS channel is closed")
        out: list[bytes] = []
        for piece in _pieces(parts):
            try:
                self._connection.sendall(piece)
            except SSL.Error as exc:
                self._fail(exc)
                raise SecurityError(f"TLS failed: {_reason(exc)}") from exc
            out.append(_drain(self._connection))
        if not out:
            return b""
        owed, self._owed, self._overhead = self._owed, b"", 0
        return b"".join((owed, *out)) if owed or len(out) > 1 else out[0]

    def open(self, data: memoryview) -> tuple[list[Buffer], int]:
        """Return the plaintext that `data` completes, and the length of `data`: OpenSSL keeps what is not complete.

        When good records precede a bad one, they are returned, and the error is raised by the next call.

        Raises:
            SecurityError: a record that is not the peer's next one, an alert, or the channel failed before.
        """
        pieces: list[Buffer] = []
        size = len(data)
        receive = self._connection.recv
        for start in range(0, size, PIECE):
            if self._ended or self._failure is not None:
                break
            self._overhead += self._connection.bio_write(data[start : start + PIECE])
            try:
                while True:
                    plaintext = receive(_MAX_PLAINTEXT)
                    self._overhead -= len(plaintext)
                    pieces.append(plaintext)
            except SSL.WantReadError:
                pass
            except SSL.ZeroReturnError:
                self._ended = True
            except SSL.Error as exc:
                self._fail(exc)
            if self._overhead > MAX_OWED:
                self._keep_owed()
        self._heard = self._heard or bool(pieces)
        if self._failure is not None and not pieces:
            raise SecurityError(self._failure)
        return pieces, size

    def close(self) -> bytes:
        """Return close_notify, or the alert that says what was wrong; the second time, nothing."""
        if not self._closed and self._failure is None:
            try:
                self._connection.shutdown()
            except SSL.Error as exc:  # the peer went first, in anger
                self._fail(exc)
        self._closed = True
        owed, self._owed = self._owed, b""
        return owed + _drain(self._connection)

    def _fail(self, error: SSL.Error) -> None:
        reason = _reason(error)
        # A client is done before the server has looked at its certificate: an alert at first is the verdict.
        refused = not self._heard and " alert " in reason
        self._failure = f"{'the peer refused our TLS handshake' if refused else 'TLS failed'}: {reason}"

    def _keep_owed(self) -> None:
        """Look at what OpenSSL wants to send, and give up on a peer that asks for too much of it."""
        self._owed += _drain(self._connection)
        self._overhead = len(self._owed)
        if len(self._owed) > MAX_OWED:
            self._failure = "the peer asks for new TLS keys without end"


def _pieces(parts: Iterable[Buffer]) -> Iterable[Buffer]:
    """Yield the concatenation of `parts` in pieces of at most PIECE bytes, small parts joined."""
    gathered: list[Buffer] = []
    size = 0
    for part in parts:
        length = len(part)
        if size + length > PIECE:
            view = memoryview(part)
            position = PIECE - size
            yield b"".join([*gathered, view[:position]])
            while length - position > PIECE:
                yield view[position : position + PIECE]
                position += PIECE
            part, length = view[position:], length - position
            gathered, size = [], 0
        if length:
            gathered.append(part)
            size += length
    if gathered:
        yield b"".join(gathered)


def _drain(connection: SSL.Connection) -> bytes:
    """Return what OpenSSL wants to send."""
    out = b""
    while True:
        try:
            data = connection.bio_read(2 * PIECE)  # a piece with its records' overhead: one read is the rule
        except SSL.WantReadError:
            return out
        out = out + data if out else data
        if len(data) < 2 * PIECE:
            return out


def _reason(error: Exception) -> str:
    """Return OpenSSL's words for what went wrong, as `tlsv13 alert certificate required`."""
    details = error.args[0] if error.args else ()
    if isinstance(details, list) and details:
        return str(details[-1][-1])
    return str(error) or type(error).__name__
