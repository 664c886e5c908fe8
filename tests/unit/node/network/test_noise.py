"""Noise as libp2p has it: the contract, and what is its own: framing, payload, bounds."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.network.errors import HandshakeError, SecurityError
from ipvcs.node.network.noise import MAX_HANDSHAKE_MESSAGE, MAX_PLAINTEXT, NoiseChannel, NoiseHandshake, NoiseSecurity
from ipvcs.node.network.noise_payload import NoisePayload
from ipvcs.node.network.noise_xx import NoiseXX
from ipvcs.node.network.security import SecurityProtocol
from ipvcs.objects.protobuf import ProtobufError
from tests.unit.node.network.security_contract import ALICE, BOB, MALLORY, MPLEX, YAMUX, SecurityContract, shake_hands

VECTORS = json.loads(
    (Path(__file__).parents[3] / "vectors" / "noise" / "noise_xx_25519_chachapoly_sha256.json").read_text()
)
PREFIX = b"noise-libp2p-static-key:"


class TestNoise(SecurityContract):
    flood = (0xFFFF).to_bytes(2) + bytes(200_000)
    handshake_limit = 2  # its length is enough

    @staticmethod
    def make(key: PrivateKey, muxers: Sequence[str] = ()) -> SecurityProtocol:
        return NoiseSecurity(key, muxers)

    def test_muxers_without_a_common_one_end_the_handshake(self) -> None:
        with pytest.raises(HandshakeError, match="no common muxer"):
            shake_hands(*self.start(muxers=([YAMUX], [MPLEX])))


def x25519(scalar: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(scalar))


def sizes_of(wire: bytes | bytearray) -> list[int]:
    """Return the plaintext sizes of the messages on the wire."""
    sizes, position = [], 0
    while position < len(wire):
        length = int.from_bytes(wire[position : position + 2])
        sizes.append(length - 16)
        position += 2 + length
    assert position == len(wire)
    return sizes


def channels(key: bytes = bytes(32)) -> tuple[NoiseChannel, NoiseChannel]:
    cipher = ChaCha20Poly1305(key)
    return NoiseChannel(cipher, cipher), NoiseChannel(cipher, cipher)


def counting(*keys: X25519PrivateKey) -> Callable[[], X25519PrivateKey]:
    """Return a factory that hands out `keys` in order."""
    remaining = iter(keys)
    return lambda: next(remaining)


# ---- vectors ----


@pytest.mark.parametrize("vector", VECTORS)
def test_messages_and_ciphers_are_those_of_the_vectors(vector: dict[str, str]) -> None:
    prologue = bytes.fromhex(vector.get("prologue", ""))
    sides = [
        NoiseXX(
            initiator=initiator,
            static=x25519(vector[f"{name}_static"]),
            ephemeral=x25519(vector[f"gen_{name}_ephemeral"]),
            prologue=prologue,
        )
        for name, initiator in (("init", True), ("resp", False))
    ]
    for number in range(3):
        writer, reader = sides if number % 2 == 0 else sides[::-1]
        payload = bytes.fromhex(vector[f"msg_{number}_payload"])
        assert writer.writes_next
        assert not reader.writes_next
        message = writer.write(payload)
        assert message.hex() == vector[f"msg_{number}_ciphertext"]
        assert reader.read(message) == payload

    initiator, responder = sides
    assert initiator.finished
    assert responder.finished
    assert initiator.handshake_hash == responder.handshake_hash
    assert initiator.remote_static == x25519(vector["resp_static"]).public_key().public_bytes_raw()
    assert responder.remote_static == x25519(vector["init_static"]).public_key().public_bytes_raw()
    (sending, receiving), (theirs_first, theirs_second) = initiator.split(), responder.split()
    ours, other = NoiseChannel(sending, receiving), NoiseChannel(theirs_second, theirs_first)
    for channel, reader_channel, number in ((ours, other, 3), (other, ours, 4)):
        payload = bytes.fromhex(vector[f"msg_{number}_payload"])
        wire = channel.seal([payload])
        assert wire[2:].hex() == vector[f"msg_{number}_ciphertext"]
        assert reader_channel.open(memoryview(wire)) == ([payload], len(wire))


def test_the_keys_of_the_vectors_give_the_first_message_of_the_handshake_framed() -> None:
    """libp2p has an empty prologue and an empty first payload, as the first vector has."""
    vector = next(vector for vector in VECTORS if not vector.get("prologue") and not vector["msg_0_payload"])
    keys = counting(x25519(vector["init_static"]), x25519(vector["gen_init_ephemeral"]))
    dialer = NoiseSecurity(ALICE, generate=keys).start(initiator=True, expected=None)
    assert dialer.data_to_send() == bytes((0, 32)) + bytes.fromhex(vector["msg_0_ciphertext"])


def test_a_handshake_is_a_function_of_its_keys() -> None:
    def flights() -> list[bytes]:
        keys = [X25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(1, 5)]
        dialer = NoiseSecurity(ALICE, [YAMUX], generate=counting(*keys[:2])).start(initiator=True, expected=BOB.peer_id)
        listener = NoiseSecurity(BOB, generate=counting(*keys[2:])).start(initiator=False, expected=None)
        sent = [dialer.data_to_send()]
        listener.receive_data(sent[-1])
        sent.append(listener.data_to_send())
        dialer.receive_data(sent[-1])
        sent.append(dialer.data_to_send())
        return sent

    assert flights() == flights()


# ---- the payload ----


def test_a_payload_has_the_fields_of_the_spec() -> None:
    encoded = NoisePayload(b"KEY", b"SIGN", ("/a", "/bc")).encode()
    assert encoded.hex() == "0a034b4559" + "12045349474e" + "2209" + "12022f61" + "12032f6263"
    assert NoisePayload(b"KEY", b"SIGN").encode().hex() == "0a034b4559" + "12045349474e"


@given(st.binary(min_size=1), st.binary(min_size=1), st.lists(st.text(max_size=20)))
def test_a_payload_is_read_as_it_was_written(key: bytes, signature: bytes, muxers: list[str]) -> None:
    payload = NoisePayload(key, signature, tuple(muxers))
    assert NoisePayload.decode(payload.encode()) == payload


def test_unknown_fields_and_the_old_data_are_skipped() -> None:
    certhash = "0a021220"  # webtransport_certhashes
    encoded = bytes.fromhex("0a014b" + "120153" + "1a0464617461" + "2208" + certhash + "12022f61" + "f80101")
    assert NoisePayload.decode(encoded) == NoisePayload(b"K", b"S", ("/a",))


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "0a014b",  # no signature
        "120153",  # no key
        "0a00120153",  # an empty key
        "0a014b1200",
        "0a014b0a014b120153",  # twice
        "0a014b12015322002200",
        "08011201530a014b",  # a number where bytes belong
        "0a014b1201532001",
        "0a014b12015322021001",
        "0a014b12015322031201ff",  # not UTF-8
        "0a014b120153220312052f",  # cut short inside
        "0a014b1205",
        "0a014b12015300",  # field 0
    ],
)
def test_a_payload_that_is_not_one_ends_the_handshake(encoded: str) -> None:
    with pytest.raises(ProtobufError):
        NoisePayload.decode(bytes.fromhex(encoded))
    with pytest.raises(HandshakeError, match="did not prove its id"):
        answer_with(lambda _: bytes.fromhex(encoded))


@given(st.binary(max_size=80))
def test_a_payload_of_any_bytes_is_refused_or_read_but_never_crashes(data: bytes) -> None:
    with pytest.raises(HandshakeError):
        answer_with(lambda _: data)


def answer_with(make_payload: Callable[[bytes], bytes], muxers: Sequence[str] = ()) -> NoiseHandshake:
    """Have a dialer read a second message with the payload made for the responder's static key."""
    dialer = NoiseSecurity(ALICE, muxers).start(initiator=True, expected=None)
    static = X25519PrivateKey.from_private_bytes(bytes(31) + b"\x01")
    responder = NoiseXX(
        initiator=False, static=static, ephemeral=X25519PrivateKey.from_private_bytes(bytes(31) + b"\x02")
    )
    responder.read(dialer.data_to_send()[2:])
    message = responder.write(make_payload(static.public_key().public_bytes_raw()))
    dialer.receive_data(len(message).to_bytes(2) + message)
    return dialer


def signed_by(key: PrivateKey, *muxers: str) -> Callable[[bytes], bytes]:
    return lambda static: NoisePayload(key.public_key.encode(), key.sign(PREFIX + static), muxers).encode()


def test_the_signature_is_over_the_static_key_behind_its_prefix() -> None:
    result = answer_with(signed_by(BOB)).result
    assert result is not None
    assert result.remote_peer == BOB.peer_id


@pytest.mark.parametrize(
    "make_payload",
    [
        lambda static: NoisePayload(BOB.public_key.encode(), MALLORY.sign(PREFIX + static), (YAMUX,)).encode(),
        lambda static: NoisePayload(BOB.public_key.encode(), BOB.sign(static)).encode(),
        lambda _: NoisePayload(BOB.public_key.encode(), BOB.sign(PREFIX + bytes(32))).encode(),
        lambda static: NoisePayload(BOB.public_key.data, BOB.sign(PREFIX + static)).encode(),
        lambda static: NoisePayload(BOB.public_key.encode(), b"\x30").encode(),
    ],
    ids=["another's signature", "no prefix", "another static key", "no protobuf key", "no signature"],
)
def test_without_proof_nothing_is_sent_and_nothing_accepted(make_payload: Callable[[bytes], bytes]) -> None:
    dialer: NoiseHandshake | None = None
    with pytest.raises(HandshakeError, match="did not prove its id") as caught:
        dialer = answer_with(make_payload)
    assert dialer is None
    frame = caught.traceback[1].frame.f_locals["dialer"]
    assert frame.result is None
    assert not frame.data_to_send()


def test_lists_of_more_than_a_hundred_muxers_are_ignored() -> None:
    hundred = [f"/muxer/{number}" for number in range(99)] + [YAMUX]
    result = answer_with(signed_by(BOB, *hundred), [YAMUX]).result
    assert result is not None
    assert result.muxer == YAMUX
    result = answer_with(signed_by(BOB, *hundred, MPLEX), [YAMUX]).result
    assert result is not None
    assert result.muxer is None


# ---- the handshake's messages ----


def test_a_message_over_the_bound_is_refused_by_its_header() -> None:
    for length, refused in ((MAX_HANDSHAKE_MESSAGE, False), (MAX_HANDSHAKE_MESSAGE + 1, True)):
        listener = NoiseSecurity(BOB).start(initiator=False, expected=None)
        if refused:
            with pytest.raises(HandshakeError, match="is over"):
                listener.receive_data(length.to_bytes(2))
        else:
            listener.receive_data(length.to_bytes(2))


def test_a_payload_in_the_first_message_is_ignored() -> None:
    dialer = NoiseXX(initiator=True, static=X25519PrivateKey.generate(), ephemeral=X25519PrivateKey.generate())
    listener = NoiseSecurity(BOB).start(initiator=False, expected=None)
    message = dialer.write(b"early")
    listener.receive_data(len(message).to_bytes(2) + message)
    answer = listener.data_to_send()
    assert NoisePayload.decode(dialer.read(answer[2:])).identity_key == BOB.public_key.encode()


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_short_message_ends_the_handshake(length: int) -> None:
    listener = NoiseSecurity(BOB).start(initiator=False, expected=None)
    with pytest.raises(HandshakeError, match="cut short"):
        listener.receive_data(length.to_bytes(2) + bytes(length))


@pytest.mark.parametrize(
    "point",
    ["00" * 32, "01" + "00" * 31, "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"],
    ids=["0", "1", "order 8"],
)
def test_a_public_key_of_low_order_ends_the_handshake(point: str) -> None:
    """The shared secret would be zero whatever we add. The points are those of RFC 7748's security considerations."""
    listener = NoiseSecurity(BOB).start(initiator=False, expected=None)
    with pytest.raises(HandshakeError, match="low order"):
        listener.receive_data(bytes((0, 32)) + bytes.fromhex(point))


# ---- the channel ----


@given(st.lists(st.sampled_from([0, 1, 12, 30_000, 65_507, 65_518, 65_519, 65_520, 131_038, 200_000]), max_size=9))
def test_a_part_that_fits_a_message_is_never_split(sizes: list[int]) -> None:
    sender, receiver = channels()
    wire = sender.seal([bytes(size) for size in sizes])
    messages = sizes_of(wire)

    assert all(0 < size <= MAX_PLAINTEXT for size in messages)
    ends = {0}
    for size in messages:
        ends.add(max(ends) + size)
    start = 0
    for size in sizes:
        inside = [end for end in ends if start < end < start + size]
        assert size > MAX_PLAINTEXT or not inside
        start += size
    assert sum(messages) == sum(sizes)
    assert all(first + second > MAX_PLAINTEXT for first, second in pairwise(messages)), "neighbours could be one"
    pieces, used = receiver.open(memoryview(wire))
    assert ([len(piece) for piece in pieces], used) == (messages, len(wire))


def test_a_frame_of_the_muxer_is_one_message() -> None:
    sender, _ = channels()
    assert sizes_of(sender.seal([bytes(12), bytes(65_507)] * 3)) == [65_519] * 3
    assert sizes_of(sender.seal([bytes(12)] * 1000)) == [12_000]


def test_an_empty_message_is_legal_and_says_nothing() -> None:
    cipher = ChaCha20Poly1305(bytes(32))
    wire = bytes((0, 16)) + cipher.encrypt(bytes(12), b"", None)
    receiver = NoiseChannel(cipher, cipher)
    assert receiver.open(memoryview(wire)) == ([], 18)
    rest = bytes((0, 18)) + cipher.encrypt((1 << 32).to_bytes(12, "little"), b"ok", None)
    assert receiver.open(memoryview(rest)) == ([b"ok"], 20)


@pytest.mark.parametrize("length", [0, 1, 15])
def test_a_message_shorter_than_its_tag_is_an_error_at_once(length: int) -> None:
    _, receiver = channels()
    with pytest.raises(SecurityError, match="shorter than its tag"):
        receiver.open(memoryview(length.to_bytes(2)))


def test_what_follows_a_forged_message_is_used_up_unread() -> None:
    sender, receiver = channels()
    good, forged, behind = (sender.seal([text]) for text in (b"good", b"forged", bytes(1000)))
    forged[-1] ^= 1
    wire = memoryview(bytes(good + forged + behind))
    assert receiver.open(wire) == ([b"good"], len(wire))
    with pytest.raises(SecurityError, match="does not decrypt"):
        receiver.open(memoryview(b""))


def test_no_nonce_is_used_twice_and_the_last_is_never_used() -> None:
    sender, receiver = channels()
    sender._send_nonce = receiver._receive_nonce = 2**64 - 3
    wire = sender.seal([b"a"])
    assert receiver.open(memoryview(wire)) == ([b"a"], len(wire))
    with pytest.raises(SecurityError, match="nonces"):
        sender.seal([bytes(MAX_PLAINTEXT), b"b"])
    wire = sender.seal([b"c"])
    assert receiver.open(memoryview(wire)) == ([b"c"], len(wire))
    with pytest.raises(SecurityError, match="nonces"):
        sender.seal([b"d"])
    reserved = ((2**64 - 1) << 32).to_bytes(12, "little")
    forged = bytes((0, 17)) + ChaCha20Poly1305(bytes(32)).encrypt(reserved, b"e", None)
    with pytest.raises(SecurityError, match="nonces"):
        receiver.open(memoryview(forged))


def test_noise_never_ends_by_itself() -> None:
    sender, receiver = channels()
    assert sender.close() == b""
    assert not receiver.ended
