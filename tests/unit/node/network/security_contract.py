"""What every security protocol promises: the promises of `ipvcs.node.network.security`, each as a test of two sides.

Subclass `SecurityContract` and say how a protocol is made.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.network.errors import HandshakeError, PeerMismatchError, SecurityError
from ipvcs.node.network.interface import Buffer
from ipvcs.node.network.security import SecureChannel, Secured, SecureHandshake, SecurityProtocol

KEYS = {
    name: PrivateKey.decode(bytes.fromhex(pair["private"]))
    for name, pair in json.loads((Path(__file__).parents[3] / "vectors" / "peer-id" / "spec_keys.json").read_text())[
        "keys"
    ].items()
}
"""One of each type; the RSA key has 4096 bits."""
ALICE, BOB = KEYS["ed25519"], KEYS["secp256k1"]
MALLORY = KEYS["ecdsa"]
YAMUX, MPLEX = "/yamux/1.0.0", "/mplex/6.7.0"

CUTS = st.lists(st.integers(1, 700), max_size=8)
PARTS = st.lists(
    st.one_of(st.binary(max_size=40), st.integers(0, 100_000).map(bytes), st.sampled_from((65_507, 65_519)).map(bytes)),
    max_size=6,
)

# Hypothesis fears that an example saved for one subclass is replayed with another: it is as good there.
EACH = settings(suppress_health_check=[HealthCheck.differing_executors])


def split(wire: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return `wire` in pieces of the sizes `cuts`, the rest as one."""
    pieces, position = [], 0
    for size in cuts:
        pieces.append(wire[position : position + size])
        position += size
    return [piece for piece in [*pieces, wire[position:]] if piece]


class Reader:
    """Opens what arrives as a connection does, and keeps what came out."""

    def __init__(self, channel: SecureChannel) -> None:
        self.channel = channel
        self.plaintext = b""
        self.pending = b""
        self.failure = ""

    def feed(self, wire: Buffer) -> None:
        """Open `wire` behind what is pending; note a failure."""
        self.pending += wire
        try:
            while True:
                pieces, used = self.channel.open(memoryview(self.pending))
                self.plaintext += b"".join(pieces)
                self.pending = self.pending[used:]
                if not pieces:  # asked again after data: an error may be waiting behind it
                    break
        except SecurityError as exc:
            self.failure = str(exc)

    @property
    def failed(self) -> bool:
        """Whether the channel gave up."""
        return bool(self.failure)


@dataclass
class Pair:
    """Two sides that finished their handshake."""

    dialer: Secured
    listener: Secured
    at_dialer: Reader
    at_listener: Reader


def shake_hands(dialer: SecureHandshake, listener: SecureHandshake, cuts: Sequence[int] = ()) -> Pair:
    """Run both to the end, each flight cut at `cuts`. Raises what either of them raises."""
    for _ in range(4):  # flights there and back; three are enough for both protocols
        for sender, receiver in ((dialer, listener), (listener, dialer)):
            for piece in split(sender.data_to_send(), cuts):
                receiver.receive_data(piece)
    assert dialer.result is not None
    assert listener.result is not None
    pair = Pair(dialer.result, listener.result, Reader(dialer.result.channel), Reader(listener.result.channel))
    pair.at_dialer.feed(dialer.rest)
    pair.at_listener.feed(listener.rest)
    return pair


class SecurityContract:
    """What every SecurityProtocol promises. Subclass it and supply `make`."""

    handshake_limit: ClassVar[int] = 64 * 1024
    """How many bytes a side may take before it has proof of an id or gives up."""
    flood: ClassVar[bytes]
    """The beginning of a handshake message that would be far too long."""

    @staticmethod
    def make(key: PrivateKey, muxers: Sequence[str] = ()) -> SecurityProtocol:
        raise NotImplementedError

    def start(
        self,
        *,
        expected: PeerId | None = BOB.peer_id,
        dialer: PrivateKey = ALICE,
        listener: PrivateKey = BOB,
        muxers: tuple[Sequence[str], Sequence[str]] = ((), ()),
    ) -> tuple[SecureHandshake, SecureHandshake]:
        return (
            self.make(dialer, muxers[0]).start(initiator=True, expected=expected),
            self.make(listener, muxers[1]).start(initiator=False, expected=None),
        )

    @pytest.fixture
    def pair(self) -> Pair:
        return shake_hands(*self.start())

    # ---- the handshake ----

    @pytest.mark.parametrize("name", KEYS)
    def test_both_sides_learn_who_the_other_is(self, name: str) -> None:
        other = KEYS[name]
        for dialer, listener in ((ALICE, other), (other, ALICE)):
            pair = shake_hands(*self.start(dialer=dialer, listener=listener, expected=listener.peer_id))
            assert (pair.dialer.remote_peer, pair.dialer.remote_key) == (listener.peer_id, listener.public_key)
            assert (pair.listener.remote_peer, pair.listener.remote_key) == (dialer.peer_id, dialer.public_key)

    def test_a_dialer_without_expectation_takes_whoever_answers(self) -> None:
        assert shake_hands(*self.start(expected=None)).dialer.remote_peer == BOB.peer_id

    def test_only_the_dialer_begins(self) -> None:
        dialer, listener = self.start()
        assert dialer.data_to_send()
        assert not dialer.data_to_send(), "the bytes are owed once"
        assert not listener.data_to_send()

    def test_one_protocol_object_serves_many_handshakes_at_once(self) -> None:
        alice, bob = self.make(ALICE), self.make(BOB)
        pairs = [
            (alice.start(initiator=True, expected=BOB.peer_id), bob.start(initiator=False, expected=None))
            for _ in range(3)
        ]
        pairs.append((bob.start(initiator=True, expected=ALICE.peer_id), alice.start(initiator=False, expected=None)))
        for dialer, listener in pairs:
            listener.receive_data(dialer.data_to_send())
        for dialer, listener in reversed(pairs):
            pair = shake_hands(dialer, listener)
            pair.at_listener.feed(pair.dialer.channel.seal([b"hello"]))
            assert pair.at_listener.plaintext == b"hello"

    def test_two_handshakes_have_nothing_in_common(self) -> None:
        alice = self.make(ALICE)
        first, second = (alice.start(initiator=True, expected=None).data_to_send() for _ in range(2))
        assert first != second

    def test_the_wrong_peer_is_found_out_by_the_dialer_and_learns_nothing(self) -> None:
        dialer, listener = self.start(listener=MALLORY, expected=BOB.peer_id)
        listener.receive_data(dialer.data_to_send())
        with pytest.raises(PeerMismatchError) as caught:
            dialer.receive_data(listener.data_to_send())
        assert (caught.value.expected, caught.value.actual) == (BOB.peer_id, MALLORY.peer_id)
        assert dialer.result is None
        alert = dialer.data_to_send()
        assert ALICE.public_key.data not in alert
        if alert:
            with pytest.raises(HandshakeError):
                listener.receive_data(alert)
        assert listener.result is None
        with pytest.raises(HandshakeError):
            dialer.receive_data(b"")

    def test_a_listener_may_expect_somebody_too(self) -> None:
        """Who is the initiator need not be who dialled: hole punching."""
        dialer = self.make(MALLORY).start(initiator=True, expected=BOB.peer_id)
        listener = self.make(BOB).start(initiator=False, expected=ALICE.peer_id)
        with pytest.raises(PeerMismatchError):
            shake_hands(dialer, listener)
        assert listener.result is None

    @given(cuts=CUTS)
    @EACH
    def test_chunking_never_changes_a_handshake(self, cuts: list[int]) -> None:
        pair = shake_hands(*self.start(muxers=([YAMUX], [YAMUX])), cuts)
        assert (pair.dialer.remote_peer, pair.listener.remote_peer) == (BOB.peer_id, ALICE.peer_id)
        assert pair.dialer.muxer == pair.listener.muxer == YAMUX

    def test_a_handshake_works_byte_by_byte(self) -> None:
        assert shake_hands(*self.start(), [1] * 5000).listener.remote_peer == ALICE.peer_id

    @pytest.mark.parametrize("cut", [0, 1, 5])
    def test_data_right_behind_the_handshake_is_in_rest(self, cut: int) -> None:
        dialer, listener = self.start()
        listener.receive_data(dialer.data_to_send())
        dialer.receive_data(listener.data_to_send())
        assert dialer.result is not None
        last = dialer.data_to_send()
        early = bytes(dialer.result.channel.seal([b"early", b" bird"]))

        listener.receive_data(last + early[: len(early) - cut])
        listener.receive_data(early[len(early) - cut :])

        assert listener.result is not None
        assert listener.rest == early
        reader = Reader(listener.result.channel)
        reader.feed(listener.rest)
        assert reader.plaintext == b"early bird"

    @given(flight=st.integers(0, 2), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    @EACH
    def test_who_alters_a_handshake_wins_nothing(self, flight: int, where: float, bit: int) -> None:
        """The handshake fails or hangs, or what was altered had no meaning; never does a side take on another view."""
        sides = self.start(muxers=([YAMUX, MPLEX], [YAMUX, MPLEX]))
        try:
            for number in range(3):
                wire = bytearray(sides[number % 2].data_to_send())
                if number == flight and wire:
                    wire[int(where * len(wire))] ^= 1 << bit
                sides[1 - number % 2].receive_data(wire)
        except HandshakeError:
            assert None in (sides[0].result, sides[1].result)
        if None in (sides[0].result, sides[1].result):
            return
        pair = shake_hands(*sides)
        assert (pair.dialer.remote_peer, pair.listener.remote_peer) == (BOB.peer_id, ALICE.peer_id)
        assert pair.dialer.muxer == pair.listener.muxer == YAMUX
        pair.at_listener.feed(pair.dialer.channel.seal([b"hello"]))
        assert pair.at_listener.plaintext == b"hello"

    @given(garbage=st.binary(min_size=1, max_size=200), initiator=st.booleans())
    @EACH
    def test_garbage_is_never_a_handshake(self, garbage: bytes, initiator: bool) -> None:
        side = self.make(ALICE).start(initiator=initiator, expected=None)
        try:
            side.receive_data(garbage)
        except HandshakeError:
            with pytest.raises(HandshakeError):
                side.receive_data(b"more")
        assert side.result is None
        assert not side.rest

    @pytest.mark.parametrize("initiator", [True, False])
    @pytest.mark.parametrize("step", [1, 700, 100_000])
    def test_a_handshake_without_end_is_given_up(self, initiator: bool, step: int) -> None:
        side = self.make(ALICE).start(initiator=initiator, expected=None)
        taken = 0
        pieces = split(self.flood, [step] * (len(self.flood) // step))
        for piece in pieces:
            taken += len(piece)
            try:
                side.receive_data(piece)
            except HandshakeError:
                break
        assert taken < self.handshake_limit + 2 * step
        with pytest.raises(HandshakeError):
            side.receive_data(b"more")
        assert side.result is None

    # ---- the muxer ----

    @pytest.mark.parametrize(
        ("ours", "theirs", "chosen"),
        [
            ([YAMUX, MPLEX], [MPLEX, YAMUX], YAMUX),
            ([MPLEX, YAMUX], [YAMUX, MPLEX], MPLEX),
            (["/other/1.0.0", MPLEX], [YAMUX, MPLEX], MPLEX),
            ([], [YAMUX], None),
            ([YAMUX], [], None),
            ([], [], None),
        ],
    )
    def test_the_muxer_is_the_first_of_the_initiators_that_the_responder_has(
        self, ours: list[str], theirs: list[str], chosen: str | None
    ) -> None:
        pair = shake_hands(*self.start(muxers=(ours, theirs)))
        assert pair.dialer.muxer == pair.listener.muxer == chosen

    # ---- the channel ----

    @given(parts=PARTS, cuts=st.lists(st.integers(1, 70_000), max_size=8))
    @settings(EACH, max_examples=20)
    def test_what_is_sealed_is_opened_in_any_chunks(self, parts: list[bytes], cuts: list[int]) -> None:
        pair = shake_hands(*self.start())
        wire = bytes(pair.dialer.channel.seal(parts)) + bytes(pair.dialer.channel.seal([b"last"]))
        for piece in split(wire, cuts):
            pair.at_listener.feed(piece)
        assert pair.at_listener.plaintext == b"".join(parts) + b"last"
        assert not pair.at_listener.pending

    @given(seed=st.integers(0, 2**32))
    @settings(EACH, max_examples=10)
    def test_both_directions_work_at_once(self, seed: int) -> None:
        random = Random(seed)
        pair = shake_hands(*self.start())
        sent = {True: b"", False: b""}
        for _ in range(30):
            outbound = random.random() < 0.5
            data = random.randbytes(random.choice((0, 1, 12, 3000, 66_000)))
            sent[outbound] += data
            sender, reader = (pair.dialer, pair.at_listener) if outbound else (pair.listener, pair.at_dialer)
            reader.feed(sender.channel.seal([data]))
        assert (pair.at_listener.plaintext, pair.at_dialer.plaintext) == (sent[True], sent[False])

    def test_buffers_of_any_kind_are_sealed(self, pair: Pair) -> None:
        parts: list[Buffer] = [
            b"bytes, ",
            bytearray(b"bytearray, "),
            memoryview(b"view"),
            memoryview(bytearray(b", writable")),
            b"",
        ]
        pair.at_listener.feed(pair.dialer.channel.seal(iter(parts)))
        assert pair.at_listener.plaintext == b"bytes, bytearray, view, writable"

    def test_nothing_seals_to_nothing(self, pair: Pair) -> None:
        assert not pair.dialer.channel.seal([])
        assert not pair.dialer.channel.seal([b"", b""])

    def test_pieces_own_their_bytes(self, pair: Pair) -> None:
        wire = bytearray(pair.dialer.channel.seal([b"keep me"]))
        pieces, used = pair.listener.channel.open(memoryview(wire))
        wire[:] = bytes(len(wire))
        assert (b"".join(pieces), used) == (b"keep me", len(wire))

    def test_the_rest_is_less_than_a_message(self, pair: Pair) -> None:
        wire = bytes(pair.dialer.channel.seal([bytes(300_000)]))
        pieces, used = pair.listener.channel.open(memoryview(wire)[:-1])
        assert len(wire) - used <= 65_537
        assert sum(map(len, pieces)) >= 300_000 - 65_519

    def test_nothing_of_the_plaintext_is_on_the_wire(self, pair: Pair) -> None:
        secret = bytes(range(256)) * 4
        wire = bytes(pair.dialer.channel.seal([secret]))
        assert not any(secret[start : start + 8] in wire for start in range(0, 256, 8))

    def test_what_one_side_sealed_it_does_not_open_itself(self, pair: Pair) -> None:
        pair.at_dialer.feed(pair.dialer.channel.seal([b"reflected"]))
        assert pair.at_dialer.failed
        assert not pair.at_dialer.plaintext

    def _messages(self, pair: Pair) -> list[bytes]:
        """Five messages and enough behind them to fill any length that a header may be changed to."""
        texts = [*(f"message {number}".encode() for number in range(5)), bytes(70_000)]
        return [bytes(pair.dialer.channel.seal([text])) for text in texts]

    @given(number=st.integers(0, 4), position=st.integers(0, 1000), bit=st.integers(0, 7), together=st.booleans())
    @EACH
    def test_a_forged_message_ends_the_channel_and_what_came_before_is_delivered(
        self, number: int, position: int, bit: int, together: bool
    ) -> None:
        pair = shake_hands(*self.start())
        messages = self._messages(pair)
        forged = bytearray(messages[number])
        forged[position % len(forged)] ^= 1 << bit
        messages[number] = bytes(forged)
        for wire in [b"".join(messages)] if together else messages:
            if not pair.at_listener.failed:
                pair.at_listener.feed(wire)
        self._check_ended(pair, number)

    @pytest.mark.parametrize(
        "order", [(0, 1, 1, 2, 3), (0, 1, 0, 2, 3), (0, 1, 3, 2, 4), (0, 1, 3, 4), (0, 1, 5)], ids=str
    )
    @pytest.mark.parametrize("together", [True, False])
    def test_messages_repeated_swapped_or_dropped_end_the_channel(
        self, order: tuple[int, ...], together: bool, pair: Pair
    ) -> None:
        messages = self._messages(pair)
        wires = [messages[number] for number in order]
        for wire in [b"".join(wires)] if together else wires:
            if not pair.at_listener.failed:
                pair.at_listener.feed(wire)
        self._check_ended(pair, 2)

    def test_a_message_cut_short_ends_the_channel(self, pair: Pair) -> None:
        messages = self._messages(pair)
        pair.at_listener.feed(messages[0] + messages[1][:-1])
        assert not pair.at_listener.failed, "the rest may still come"
        pair.at_listener.feed(b"".join(messages[2:]))
        self._check_ended(pair, 1)

    @staticmethod
    def _check_ended(pair: Pair, before: int) -> None:
        """`before` messages were delivered, and the channel refuses everything from now on."""
        assert pair.at_listener.plaintext == b"".join(f"message {number}".encode() for number in range(before))
        assert pair.at_listener.failed
        good = memoryview(bytes(pair.dialer.channel.seal([b"good"])))
        for _ in range(2):
            with pytest.raises(SecurityError):
                pair.listener.channel.open(good)
            with pytest.raises(SecurityError):
                pair.listener.channel.seal([b"no"])

    def test_last_words_are_understood(self, pair: Pair) -> None:
        channel = pair.dialer.channel
        pair.at_listener.feed(bytes(channel.seal([b"goodbye"])) + bytes(channel.close()))
        assert pair.at_listener.plaintext == b"goodbye"
        assert not pair.at_listener.failed
        assert not channel.close(), "once is enough"
