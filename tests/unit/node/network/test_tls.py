"""TLS as libp2p has it: the contract, and what is its own: versions, certificates, ALPN, alerts, the end."""

import hmac
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from ipvcs.errors import LocalProtocolError
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.network import tls
from ipvcs.node.network.errors import HandshakeError, PeerMismatchError, SecurityError
from ipvcs.node.network.security import SecurityProtocol
from ipvcs.node.network.tls import MAX_HANDSHAKE, MAX_OWED, PIECE, TlsChannel, TlsHandshake, TlsSecurity
from ipvcs.node.network.tls_certificate import CertificateError
from tests.unit.node.network.security_contract import (
    ALICE,
    BOB,
    MALLORY,
    MPLEX,
    YAMUX,
    Pair,
    Reader,
    SecurityContract,
    shake_hands,
    split,
)
from tests.unit.node.network.test_tls_certificate import P256, P384, certificate, rsa_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)  # when the certificates of the tests are valid


class TestTls(SecurityContract):
    # A handshake message that goes on for record after record: its length claims 16 MiB.
    flood = b"".join(
        b"\x16\x03\x03\x40\x00" + (bytes(16384) if number else b"\x01\xff\xff\xff" + bytes(16380))
        for number in range(6)
    )
    handshake_limit = MAX_HANDSHAKE

    @staticmethod
    def make(key: PrivateKey, muxers: Sequence[str] = ()) -> SecurityProtocol:
        return TlsSecurity(key, muxers)

    def test_without_a_common_muxer_none_is_agreed_on(self) -> None:
        """Both lists end with `libp2p`: the muxer is negotiated inside then, and fails there."""
        pair = shake_hands(*self.start(muxers=([YAMUX], [MPLEX])))
        assert pair.dialer.muxer is pair.listener.muxer is None

    def test_a_listener_that_refuses_is_heard_at_the_first_read(self) -> None:
        dialer = self.make(MALLORY).start(initiator=True, expected=BOB.peer_id)
        listener = self.make(BOB).start(initiator=False, expected=ALICE.peer_id)
        listener.receive_data(dialer.data_to_send())
        dialer.receive_data(listener.data_to_send())
        assert dialer.result is not None, "a client can't know better"
        with pytest.raises(PeerMismatchError):
            listener.receive_data(dialer.data_to_send())
        with pytest.raises(SecurityError, match=r"the peer refused our TLS handshake: .* alert "):
            dialer.result.channel.open(memoryview(listener.data_to_send()))


class Other:
    """A TLS side that is not ours: OpenSSL between two buffers, whatever is wrong with its context."""

    def __init__(self, context: SSL.Context, *, client: bool) -> None:
        self.connection = SSL.Connection(context)
        if client:
            self.connection.set_connect_state()
        else:
            self.connection.set_accept_state()
        self.client = client
        self.error = ""
        """What it says about the end of the handshake, if it failed."""

    def step(self, data: bytes = b"") -> bytes:
        """Take bytes, go on with the handshake, and return what is to be sent."""
        if data:
            self.connection.bio_write(data)
        try:
            self.connection.do_handshake()
            self.connection.recv(1)
        except SSL.WantReadError:
            pass
        except SSL.Error as exc:
            self.error = self.error or exc.args[0][-1][-1]
        with suppress(SSL.WantReadError):
            return self.connection.bio_read(1 << 20)
        return b""


def other_context(
    encoded: bytes | None = None,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    *,
    alpn: Sequence[bytes] = (),
    extra: bytes | None = None,
) -> SSL.Context:
    """Return a context with a certificate (None: a good one of BOB's, empty: none) that takes any certificate."""
    context = SSL.Context(SSL.TLS_METHOD)
    if encoded != b"":
        context.use_certificate(x509.load_der_x509_certificate(encoded or certificate()))
        context.use_privatekey(key or P256)
    if extra is not None:
        context.add_extra_chain_cert(x509.load_der_x509_certificate(extra))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    if alpn:
        context.set_alpn_protos(list(alpn))
    return context


def meet(other: Other, *, muxers: Sequence[str] = (), security: TlsSecurity | None = None) -> TlsHandshake:
    """Have our side shake hands with `other`. Raises what ours raises, once `other` heard about it."""
    security = security or TlsSecurity(ALICE, muxers, clock=lambda: NOW)
    ours = security.start(initiator=not other.client, expected=None)
    heard = other.step() if other.client else b""
    for _ in range(3):
        try:
            ours.receive_data(heard)
        finally:
            heard = other.step(ours.data_to_send())
    assert ours.result is not None
    return ours


@pytest.fixture(params=[True, False], ids=["they dial", "we dial"])
def client(request: pytest.FixtureRequest) -> bool:
    """Whether the other side is the TLS client."""
    return bool(request.param)


# ---- versions and certificates ----


def test_an_other_side_that_is_right_is_taken(client: bool) -> None:
    other = Other(other_context(), client=client)
    result = meet(other).result
    assert result is not None
    assert (result.remote_peer, result.muxer) == (BOB.peer_id, None)
    assert not other.error
    assert other.connection.get_protocol_version_name() == "TLSv1.3"


def test_older_versions_are_refused(client: bool) -> None:
    context = other_context()
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    other = Other(context, client=client)
    with pytest.raises(HandshakeError, match="TLS handshake failed: "):
        meet(other)
    assert "protocol version" in other.error or "unsupported protocol" in other.error


def test_a_client_without_certificate_is_refused() -> None:
    other = Other(other_context(b""), client=True)
    with pytest.raises(HandshakeError, match="peer did not return a certificate"):
        meet(other)
    assert "alert certificate required" in other.error


def test_a_chain_of_two_is_refused(client: bool) -> None:
    with pytest.raises(HandshakeError, match="2 TLS certificates instead of one"):
        meet(Other(other_context(extra=certificate(P384, algorithm=SHA384())), client=client))


def test_a_good_certificate_behind_ones_own_proves_nothing(client: bool) -> None:
    """OpenSSL shows us both, and first the one that is not the other side's: BOB's, which anybody may have."""
    victims = certificate(P384, algorithm=SHA384(), subject="victim", issuer="victim")
    encoded = certificate(extension=b"", issuer="victim")
    with pytest.raises(CertificateError, match="it is not self-signed"):
        meet(Other(other_context(encoded, extra=victims), client=client))


def test_a_certificate_without_proof_is_refused_with_an_alert(client: bool) -> None:
    other = Other(other_context(certificate(extension=b"")), client=client)
    with pytest.raises(CertificateError, match="no libp2p extension"):
        meet(other)
    assert " alert " in other.error


def test_a_certificate_that_is_not_valid_now_is_refused(client: bool) -> None:
    late = TlsSecurity(ALICE, clock=lambda: datetime(2030, 1, 1, tzinfo=UTC))
    with pytest.raises(CertificateError, match="it is valid from 2025-12-31 00:00"):
        meet(Other(other_context(), client=client), security=late)


def test_certificate_keys_of_other_kinds_are_taken(client: bool) -> None:
    for context in (
        other_context(certificate(P384, algorithm=SHA384()), P384),
        other_context(certificate(rsa_key()), rsa_key()),
    ):
        result = meet(Other(context, client=client)).result
        assert result is not None
        assert result.remote_peer == BOB.peer_id


def test_a_certificate_over_the_bounds_is_refused(client: bool) -> None:
    unknown = x509.ObjectIdentifier("1.2.3.4.5")
    for size, reason in ((16 * 1024, "are over"), (MAX_HANDSHAKE, "takes over")):
        encoded = certificate(others=((x509.UnrecognizedExtension(unknown, bytes(size)), False),))
        with pytest.raises(HandshakeError, match=reason):
            meet(Other(other_context(encoded), client=client))


def test_the_client_names_no_server() -> None:
    other = Other(other_context(), client=False)
    meet(other)
    assert other.connection.get_servername() is None


def test_our_certificate_is_the_same_for_all_handshakes() -> None:
    security = TlsSecurity(ALICE, clock=lambda: NOW)
    seen = set()
    for client in (True, False):
        other = Other(other_context(), client=client)
        meet(other, security=security)
        sent = other.connection.get_peer_certificate(as_cryptography=True)
        assert sent is not None
        seen.add(sent.public_bytes(Encoding.DER))
    assert len(seen) == 1


def test_sessions_are_not_resumed() -> None:
    """A resumed one would show no certificate. The tickets that a server sends all the same name nothing."""
    security = TlsSecurity(ALICE, clock=lambda: NOW)
    first = Other(other_context(), client=True)
    meet(first, security=security)
    session = first.connection.get_session()
    assert session is not None
    again = Other(first.connection.get_context(), client=True)
    again.connection.set_session(session)
    result = meet(again, security=security).result
    assert result is not None
    assert result.remote_peer == BOB.peer_id


# ---- records ----


def test_what_is_no_tls_is_refused_by_its_first_byte(client: bool) -> None:
    ours = TlsSecurity(ALICE).start(initiator=not client, expected=None)
    with pytest.raises(HandshakeError, match="does not speak TLS"):
        ours.receive_data(b"G")


def test_a_record_that_is_too_long_is_refused_by_its_header(client: bool) -> None:
    ours = TlsSecurity(ALICE).start(initiator=not client, expected=None)
    with pytest.raises(HandshakeError, match="TLS record of 16641 bytes"):
        ours.receive_data(b"\x16\x03\x03\x41\x01")


# ---- ALPN ----


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([], None),
        ([b"libp2p"], None),
        ([b"h2", b"libp2p"], None),
        ([MPLEX.encode(), YAMUX.encode(), b"libp2p"], MPLEX),
        ([b"/other", YAMUX.encode()], YAMUX),
    ],
)
def test_a_server_takes_the_first_that_the_client_offers(offered: list[bytes], chosen: str | None) -> None:
    other = Other(other_context(alpn=offered), client=True)
    result = meet(other, muxers=[YAMUX, MPLEX]).result
    assert result is not None
    assert result.muxer == chosen


def test_a_client_without_a_protocol_of_ours_is_refused() -> None:
    security = TlsSecurity(ALICE, [YAMUX], clock=lambda: NOW)
    other = Other(other_context(alpn=[b"h2", b"http/1.1"]), client=True)
    with pytest.raises(HandshakeError, match=r"none of our muxers in TLS, but for h2, http/1\.1"):
        meet(other, security=security)
    assert "alert no application protocol" in other.error
    meet(Other(other_context(), client=True), security=security)  # the next one is not troubled by it


def test_a_client_offers_the_muxers_and_libp2p_last() -> None:
    offered: list[list[bytes]] = []

    def select(_: SSL.Connection, protocols: list[bytes]) -> bytes:
        offered.append(protocols)
        return MPLEX.encode()

    context = other_context()
    context.set_alpn_select_callback(select)
    result = meet(Other(context, client=False), muxers=[YAMUX, MPLEX]).result
    assert offered == [[YAMUX.encode(), MPLEX.encode(), b"libp2p"]]
    assert result is not None
    assert result.muxer == MPLEX


def test_a_server_that_chooses_what_was_not_offered_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """New versions of OpenSSL find that out themselves, old ones tell us the choice."""
    context = other_context()
    context.set_alpn_select_callback(lambda *_: b"/other")
    with pytest.raises(HandshakeError, match="TLS handshake failed"):
        meet(Other(context, client=False), muxers=[YAMUX])
    monkeypatch.setattr(SSL.Connection, "get_alpn_proto_negotiated", lambda _: b"/other")
    with pytest.raises(HandshakeError, match="was not offered"):
        meet(Other(other_context(), client=False), muxers=[YAMUX])


# ---- the channel ----


@pytest.fixture
def pair() -> Pair:
    return shake_hands(
        TlsSecurity(ALICE).start(initiator=True, expected=None), TlsSecurity(BOB).start(initiator=False, expected=None)
    )


def test_close_notify_ends_the_channel(pair: Pair) -> None:
    closing, other = pair.dialer.channel, pair.listener.channel
    last = bytes(closing.seal([b"last"])) + bytes(closing.close())
    ended = [other.ended]
    pieces, used = other.open(memoryview(last + b"ignored"))
    assert (b"".join(pieces), used) == (b"last", len(last) + 7)
    assert [*ended, other.ended] == [False, True]
    assert other.open(memoryview(b"ignored")) == ([], 7)
    ended = [closing.ended]  # each direction ends by itself
    pair.at_dialer.feed(bytes(other.seal([b"and you"])) + bytes(other.close()))
    assert pair.at_dialer.plaintext == b"and you"
    assert [*ended, closing.ended] == [False, True]


def test_nothing_is_sealed_after_the_close(pair: Pair) -> None:
    pair.dialer.channel.close()
    with pytest.raises(LocalProtocolError, match="closed"):
        pair.dialer.channel.seal([b"more"])


def test_the_last_word_after_a_forgery_is_an_alert(pair: Pair) -> None:
    pair.at_dialer.feed(pair.listener.channel.seal([b"we have met"]))
    forged = bytearray(pair.dialer.channel.seal([b"text"]))
    forged[-1] ^= 1
    pair.at_listener.feed(forged)
    assert pair.at_listener.failed
    with pytest.raises(SecurityError, match=r"^TLS failed: .* alert bad record mac"):
        pair.dialer.channel.open(memoryview(bytes(pair.listener.channel.close())))


@given(st.lists(st.sampled_from([0, 1, 12, 20_000, PIECE - 1, PIECE, PIECE + 1, 65_507, 100_000]), max_size=6))
def test_pieces_are_the_parts_in_bounded_sizes(sizes: list[int]) -> None:
    whole = bytes(index % 251 for index in range(sum(sizes)))
    parts, position = [], 0
    for size in sizes:
        parts.append(whole[position : position + size])
        position += size
    pieces = [bytes(piece) for piece in tls._pieces(parts)]
    assert b"".join(pieces) == whole
    assert all(len(piece) == PIECE for piece in pieces[:-1])
    assert all(0 < len(piece) <= PIECE for piece in pieces)


def test_small_parts_share_a_record(pair: Pair) -> None:
    wire = bytes(pair.dialer.channel.seal([bytes(12)] * 1000))
    assert len(wire) == 12_000 + 22


def expand_label(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446, section 7.1, for up to 32 bytes."""
    info = length.to_bytes(2) + bytes([6 + len(label)]) + b"tls13 " + label + b"\0\x01"
    return hmac.digest(secret, info, "sha256")[:length]


class Forger:
    """Writes the records of a TLS client that our own code would never write, from its traffic secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._sequence = 0

    def record(self, content_type: int, content: bytes) -> bytes:
        key, iv = expand_label(self._secret, b"key", 16), expand_label(self._secret, b"iv", 12)
        nonce = (int.from_bytes(iv) ^ self._sequence).to_bytes(12)
        self._sequence += 1
        header = b"\x17\x03\x03" + (len(content) + 17).to_bytes(2)
        return header + AESGCM(key).encrypt(nonce, content + bytes([content_type]), header)

    def key_update(self) -> bytes:
        """Change our key and ask the peer to do the same."""
        record = self.record(22, bytes((24, 0, 0, 1, 1)))
        self._secret, self._sequence = expand_label(self._secret, b"traffic upd", 32), 0
        return record


@pytest.fixture
def forged_client() -> tuple[Forger, Reader, TlsChannel]:
    """Return a forger, and the server that takes it for its client."""
    secrets = {}

    def note(_: SSL.Connection, line: bytes) -> None:
        name, _random, secret = line.split()
        secrets[name] = bytes.fromhex(secret.decode())

    context = other_context()
    context.set_keylog_callback(note)
    context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256")
    result = meet(Other(context, client=True)).result
    assert result is not None
    assert isinstance(result.channel, TlsChannel)
    return Forger(secrets[b"CLIENT_TRAFFIC_SECRET_0"]), Reader(result.channel), result.channel


def test_new_keys_are_taken_and_answered(forged_client: tuple[Forger, Reader, TlsChannel]) -> None:
    forger, reader, channel = forged_client
    reader.feed(forger.record(23, b"old ") + forger.key_update() + forger.record(23, b"new"))
    assert reader.plaintext == b"old new"
    plain = len(channel.seal([b"x"]))
    assert plain > len(channel.seal([b"x"])), "the first came behind our own key update"


def test_a_peer_that_asks_for_keys_without_end_is_given_up(forged_client: tuple[Forger, Reader, TlsChannel]) -> None:
    forger, reader, channel = forged_client
    taken = 0
    while not reader.failed:
        taken += 27
        assert taken < 2 * MAX_OWED
        reader.feed(forger.key_update() + (forger.record(23, b"x") if taken % 5 == 0 else b""))
    assert reader.failure == "the peer asks for new TLS keys without end"
    assert MAX_OWED < len(channel.close()) < 2 * MAX_OWED, "the last word comes behind what was owed"


def test_answers_that_were_sent_are_not_held_against_the_peer(
    forged_client: tuple[Forger, Reader, TlsChannel],
) -> None:
    forger, reader, channel = forged_client
    for _ in range(40):
        reader.feed(b"".join(forger.key_update() for _ in range(100)))
        assert len(channel.seal([b"x"])) > 2700
    assert not reader.failed


def test_empty_records_without_end_are_given_up(forged_client: tuple[Forger, Reader, TlsChannel]) -> None:
    forger, reader, _ = forged_client
    for wire in split(b"".join(forger.record(23, b"") for _ in range(100)), [22] * 100):
        if not reader.failed:
            reader.feed(wire)
    assert reader.failed
