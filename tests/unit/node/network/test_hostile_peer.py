"""A hostile peer, by script: each attack ends its own connection, within bounds, and disturbs no other."""

import asyncio
import gc
import itertools
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import anyio
import pytest

from ipvcs.node.identity.keys import generate_key
from ipvcs.node.network.connection import MuxedConnection
from ipvcs.node.network.errors import DialError, HandshakeError
from ipvcs.node.network.interface import Connection, Stream
from ipvcs.node.network.limits import Limits
from ipvcs.node.network.multistream import HEADER, encode_message
from ipvcs.node.network.noise import NoiseSecurity
from tests.fakes.raw_peer import RawPeer
from tests.fakes.tcp_host import TcpHost

pytestmark = [pytest.mark.network, pytest.mark.anyio]

KIB = 1024
DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
WINDOW_SIZE = 256 * KIB


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def frame(kind: int, flags: int = 0, stream: int = 0, length: int = 0, payload: bytes = b"", version: int = 0) -> bytes:
    return struct.pack("!BBHII", version, kind, flags, stream, length) + payload


@dataclass
class Scene:
    """A server, an innocent peer of it, and where attackers go."""

    server: TcpHost
    innocent: Connection
    host: str
    port: int
    attackers: list[RawPeer] = field(default_factory=list)

    async def attacker(self) -> RawPeer:
        self.attackers.append(await RawPeer.connect(self.host, self.port))
        return self.attackers[-1]

    async def check_innocent(self) -> None:
        """An echo still works, and quickly."""
        began = time.monotonic()
        stream = await self.innocent.open_stream(["/echo"])
        await stream.send(b"undisturbed")
        assert await stream.receive() == b"undisturbed"
        await stream.aclose()
        assert time.monotonic() - began < 5
        assert not self.innocent.is_closed

    async def check_clean(self) -> None:
        """Of the attacker nothing is left."""
        async with asyncio.timeout(5):
            while len(self.server.accepted) > 1 + len(self.server.ended) or self.server.resources.half_open:
                await asyncio.sleep(0.01)
        assert self.server.resources.memory == 0


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    limits = Limits(handshake_timeout=0.5, half_open=20, streams_per_peer=100, negotiation_timeout=0.5)
    async with TcpHost(limits=limits) as server, TcpHost() as innocent:
        addr = await server.listen()

        async def sleep(_stream: Stream) -> None:
            await asyncio.sleep(1000)

        server.handlers["/sleep"] = sleep
        connection = await innocent.dial(server)
        scene = Scene(server, connection, "127.0.0.1", int(addr.value_for("tcp") or 0))
        yield scene
        for attacker in scene.attackers:
            await attacker.aclose()


def opening(stream: int, protocol: str = "/sleep", flags: int = 0) -> bytes:
    """A stream opened for `protocol`, `flags` on its last frame."""
    wire = HEADER + encode_message(protocol)
    return frame(WINDOW, SYN, stream) + frame(DATA, flags, stream, len(wire), wire)


VIOLATIONS = {
    "bad version": frame(WINDOW, SYN, 1, version=7),
    "unknown type": frame(77),
    "our parity": frame(WINDOW, SYN, 2),
    "stream id zero": frame(WINDOW, SYN, 0),
    "stream opened twice": frame(WINDOW, SYN, 1) * 2,
    "unsolicited pong": frame(PING, ACK, 0, 99),
    "window overrun by its header": frame(WINDOW, SYN, 1) + frame(DATA, 0, 1, 0x7FFFFFFF),
    "window overrun by data": opening(1)
    + frame(DATA, 0, 1, WINDOW_SIZE, bytes(WINDOW_SIZE))
    + frame(DATA, 0, 1, 1, b"x"),
    "window update overflow": frame(WINDOW, SYN, 1) + frame(WINDOW, 0, 1, 0xFFFFFFFF) * 2,
    "100,000 SYNs": b"".join(frame(WINDOW, SYN, 2 * number + 1) for number in range(100_000)),
    "data after FIN": frame(WINDOW, SYN | FIN, 1) + frame(DATA, 0, 1, 1, b"x"),
    "frame for a stream we never opened": frame(DATA, 0, 2, 1, b"x"),
}


@pytest.mark.parametrize("wire", VIOLATIONS.values(), ids=VIOLATIONS.keys())
async def test_a_yamux_violation_ends_the_connection(scene: Scene, wire: bytes) -> None:
    attacker = await (await scene.attacker()).secure()
    with suppress(ConnectionError):
        await attacker.send(wire)
    assert await attacker.is_cut_off()
    await scene.check_innocent()
    await scene.check_clean()


CHATTER = {
    "empty data frames": frame(DATA, 0, 1),
    "windows that grow by nothing": frame(WINDOW, 0, 1),
    "goodbyes": frame(GO_AWAY),
    "pings whose answers are read": frame(PING, SYN, 0, 7),
}


@pytest.mark.parametrize("wire", CHATTER.values(), ids=CHATTER.keys())
async def test_frames_that_carry_nothing_end_the_connection(scene: Scene, wire: bytes) -> None:
    attacker = await (await scene.attacker()).secure()
    await attacker.send(opening(1) + 500 * wire)  # some are nobody's harm
    await scene.check_innocent()
    assert not scene.server.ended

    async def flood() -> None:
        with suppress(ConnectionError):
            while True:
                await attacker.send(5000 * wire)

    flooding = asyncio.create_task(flood())
    assert await attacker.is_cut_off()
    flooding.cancel()
    await scene.check_innocent()
    await scene.check_clean()


async def send_tiny_frames(attacker: RawPeer) -> None:
    await attacker.send(opening(1, "/echo"))
    while True:
        await attacker.send(b"".join(frame(DATA, 0, 1, 1, b"x") for _ in range(5000)))


async def send_streams(attacker: RawPeer) -> None:
    for first in itertools.count(1, 1600):
        await attacker.send(b"".join(opening(stream, "/echo", FIN) for stream in range(first, first + 1600, 2)))


@pytest.fixture
def no_collections() -> Iterator[None]:
    """No garbage collection, which takes tens of milliseconds among all that pytest holds."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("attack", [send_tiny_frames, send_streams])
async def test_floods_on_many_connections_leave_turns_for_others(
    scene: Scene, attack: Callable[[RawPeer], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message of 64 KiB of either keeps us busy for a twentieth of a second and more, and there is always another."""
    turns: list[float] = []
    work = MuxedConnection._work

    def timed_work(connection: MuxedConnection) -> None:
        began = time.thread_time()  # CPU seconds: a busy machine does not count
        try:
            work(connection)
        finally:
            turns.append(time.thread_time() - began)

    monkeypatch.setattr(MuxedConnection, "_work", timed_work)
    attackers = [await (await scene.attacker()).secure() for _ in range(8)]

    async def flood(attacker: RawPeer) -> None:
        with suppress(ConnectionError):
            await attack(attacker)

    floods = [asyncio.create_task(flood(attacker)) for attacker in attackers]
    await asyncio.sleep(0.3)
    echoes: list[float] = []
    for _ in range(5):
        began = time.monotonic()
        await scene.check_innocent()
        echoes.append(time.monotonic() - began)
    for each in floods:
        each.cancel()
    assert len(turns) > 30  # it was a flood, in which messages took several turns each
    assert sum(turns) > 0.02
    assert max(turns) < 0.03
    assert sorted(echoes)[2] < 1


async def test_a_peer_whose_streams_are_not_admitted_is_refused_without_a_task_and_then_cut_off(scene: Scene) -> None:
    served: list[Stream] = []
    scene.server.admit = lambda protocol: protocol != "/sleep"

    async def serve(stream: Stream) -> None:
        served.append(stream)

    scene.server.handlers["/sleep"] = serve
    attacker = await (await scene.attacker()).secure()
    await attacker.send(b"".join(opening(stream) for stream in range(1, 200, 2)))
    resets: set[int] = set()
    async with asyncio.timeout(5):
        while len(resets) < 100:
            kind, flags, stream, value, _payload = await attacker.receive_frame()
            if kind == PING and flags & SYN:
                await attacker.send(frame(PING, ACK, 0, value))
            elif flags & RST:
                resets.add(stream)
    assert not scene.server.ended  # some are nobody's harm
    assert scene.server.resources.streams == 0
    with suppress(ConnectionError):
        await attacker.send(b"".join(opening(stream) for stream in range(201, 8201, 2)))
    assert await attacker.is_cut_off()
    assert not served
    await scene.check_innocent()
    await scene.check_clean()


def reset_at_once(first: int, count: int) -> bytes:
    return b"".join(
        frame(WINDOW, SYN, number) + frame(WINDOW, RST, number) for number in range(first, first + 2 * count, 2)
    )


async def test_streams_reset_at_once_are_fine_and_a_flood_of_them_is_not(scene: Scene) -> None:
    attacker = await (await scene.attacker()).secure()
    await attacker.send(reset_at_once(1, 100) + opening(201, "/echo") + frame(DATA, 0, 201, 5, b"hello"))
    while (received := await attacker.receive_frame())[4] != b"hello":
        assert received[0] != GO_AWAY
    with suppress(ConnectionError):
        await attacker.send(reset_at_once(203, 100_000))
    assert await attacker.is_cut_off()
    await scene.check_clean()
    ((_connection, reason),) = scene.server.ended
    assert "reset" in str(reason)
    await scene.check_innocent()


async def test_streams_that_are_refused_for_ever_end_the_connection(scene: Scene) -> None:
    """Refused by the share of the peer, which is over all its connections, so by the shell and not by the core."""
    first, second = await scene.attacker(), await scene.attacker()
    second.key = first.key
    await first.secure()
    await second.secure()
    await first.send(b"".join(opening(number) for number in range(1, 201, 2)))
    await asyncio.sleep(0.1)
    with suppress(ConnectionError):
        await second.send(b"".join(frame(WINDOW, SYN, 2 * number + 1) for number in range(5000)))
    assert await second.is_cut_off()
    await scene.check_innocent()


async def test_garbage_behind_the_muxers_negotiation_leaves_nothing(scene: Scene) -> None:
    attacker = await (await scene.attacker()).secure(muxer=None)
    await attacker.send(HEADER + encode_message("/yamux/1.0.0") + frame(77))
    assert await attacker.is_cut_off()
    await scene.check_clean()
    await scene.check_innocent()


async def test_a_ping_flood_whose_answers_nobody_reads_ends_the_connection(scene: Scene) -> None:
    attacker = await (await scene.attacker()).secure()
    attacker.writer.transport.pause_reading()  # type: ignore[attr-defined]
    flood = b"".join(frame(PING, SYN, 0, number) for number in range(5000))
    with suppress(ConnectionError):
        async with asyncio.timeout(20):
            while not scene.server.ended:
                await attacker.send(flood)
                await asyncio.sleep(0)
    attacker.close()
    await scene.check_innocent()
    await scene.check_clean()


async def test_streams_that_never_say_what_they_want_are_reset_in_time(scene: Scene) -> None:
    attacker = await (await scene.attacker()).secure()
    await attacker.send(b"".join(frame(WINDOW, SYN, 2 * number + 1) for number in range(100)))
    resets: set[int] = set()
    async with asyncio.timeout(5):
        while len(resets) < 100:
            kind, flags, stream, value, _payload = await attacker.receive_frame()
            if kind == PING and flags & SYN:
                await attacker.send(frame(PING, ACK, 0, value))
            elif flags & RST:
                resets.add(stream)
    attacker.close()
    await scene.check_innocent()


async def test_endless_proposals_on_a_stream_reset_it(scene: Scene) -> None:
    attacker = await (await scene.attacker()).secure()
    wire = HEADER + b"".join(encode_message(f"/unknown/{number}") for number in range(1000))
    await attacker.send(frame(WINDOW, SYN, 1) + frame(DATA, 0, 1, len(wire), wire))
    async with asyncio.timeout(5):
        while not (await attacker.receive_frame())[1] & RST:
            pass
    attacker.close()
    await scene.check_innocent()
    await scene.check_clean()


def tampered(wire: bytes) -> bytes:
    return wire[:-1] + bytes([wire[-1] ^ 1])


async def send_tampered(attacker: RawPeer) -> None:
    await attacker.send_wire(tampered(bytes(attacker.channel.seal([frame(PING, SYN, 0, 1)]))))


async def send_replayed(attacker: RawPeer) -> None:
    wire = bytes(attacker.channel.seal([frame(PING, SYN, 0, 1)]))
    await attacker.send_wire(wire + wire)


async def send_reordered(attacker: RawPeer) -> None:
    first = bytes(attacker.channel.seal([frame(PING, SYN, 0, 1)]))
    await attacker.send_wire(bytes(attacker.channel.seal([frame(PING, SYN, 0, 2)])) + first)


async def send_too_short(attacker: RawPeer) -> None:
    await attacker.send_wire(b"\x00\x03abc")


async def send_truncated(attacker: RawPeer) -> None:
    await attacker.send_wire(bytes(attacker.channel.seal([frame(PING, SYN, 0, 1)]))[:-4])
    attacker.writer.write_eof()


@pytest.mark.parametrize("attack", [send_tampered, send_replayed, send_reordered, send_too_short, send_truncated])
async def test_a_broken_noise_message_ends_the_connection(
    scene: Scene, attack: Callable[[RawPeer], Awaitable[None]]
) -> None:
    attacker = await (await scene.attacker()).secure()
    await attack(attacker)
    assert await attacker.is_cut_off()
    await scene.check_innocent()
    await scene.check_clean()


async def say_nothing(_attacker: RawPeer) -> None:
    pass


async def say_garbage(attacker: RawPeer) -> None:
    await attacker.send_wire(b"GET / HTTP/1.1\r\n\r\n" * 100)


async def stop_after_multistream(attacker: RawPeer) -> None:
    await attacker.negotiate("/noise")


async def send_one_byte_at_a_time(attacker: RawPeer) -> None:
    for byte in HEADER + encode_message("/noise") + bytes(3000):
        await attacker.send_wire(bytes([byte]))
        await asyncio.sleep(0.01)


async def send_an_oversized_noise_message(attacker: RawPeer) -> None:
    await attacker.negotiate("/noise")
    await attacker.send_wire(b"\xff\xff" + bytes(65535))


async def refuse_everything(attacker: RawPeer) -> None:
    await attacker.send_wire(HEADER + encode_message("na") * 10_000)


async def propose_for_ever(attacker: RawPeer) -> None:
    await attacker.send_wire(HEADER)
    for number in range(10_000):
        await attacker.send_wire(encode_message(f"/security/{number}"))


async def send_a_megabyte_behind_the_proposal(attacker: RawPeer) -> None:
    await attacker.send_wire(HEADER + encode_message("/noise") + b"\x00\x20" + bytes(32) + bytes(1024 * KIB))


@pytest.mark.parametrize(
    "attack",
    [
        say_nothing,
        say_garbage,
        stop_after_multistream,
        send_one_byte_at_a_time,
        send_an_oversized_noise_message,
        refuse_everything,
        propose_for_ever,
        send_a_megabyte_behind_the_proposal,
    ],
)
async def test_a_handshake_that_leads_nowhere_ends_in_time(
    scene: Scene, attack: Callable[[RawPeer], Awaitable[None]]
) -> None:
    attacker = await scene.attacker()

    async def act() -> None:
        with suppress(ConnectionError, EOFError):
            await attack(attacker)

    acting = asyncio.create_task(act())
    await scene.check_innocent()
    assert await attacker.is_cut_off(within=3)
    acting.cancel()
    await scene.check_clean()


async def test_half_open_handshakes_beyond_the_limit_are_turned_away_and_make_room_again(scene: Scene) -> None:
    attackers = [await scene.attacker() for _ in range(60)]
    async with asyncio.timeout(2):
        while scene.server.resources.half_open < 20:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert scene.server.resources.half_open == 20
    await scene.check_innocent()  # who is in stays in
    assert all([await attacker.is_cut_off(within=3) for attacker in attackers])
    await scene.check_clean()
    assert await (await scene.attacker()).secure()  # and others come in again
    await scene.check_innocent()


async def test_a_dialler_gives_up_on_a_listener_that_only_says_na() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(HEADER)
            while True:
                writer.write(encode_message("na"))
                await writer.drain()

    await check_dial_fails(answer)


async def test_a_dialler_gives_up_on_a_listener_that_proves_no_id() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(HEADER + encode_message("/noise"))
            await reader.readexactly(len(HEADER + encode_message("/noise")))
            length = int.from_bytes(await reader.readexactly(2))
            await reader.readexactly(length)
            writer.write(b"\x00\x60" + bytes(0x60))
            await reader.read()

    await check_dial_fails(answer)


async def test_a_dialler_refuses_a_signature_by_another_key() -> None:
    handshakes = []

    class Liar(NoiseSecurity):
        """Shows somebody else's public key."""

        def __init__(self) -> None:
            super().__init__(generate_key())
            other = generate_key().public_key.encode()
            ours = self._payload  # the protobuf with our key and signature
            self._payload = ours[:2] + other + ours[2 + len(other) :]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(HEADER + encode_message("/noise"))
            await reader.readexactly(len(HEADER + encode_message("/noise")))
            handshake = Liar().start(initiator=False, expected=None)
            handshakes.append(handshake)
            length = await reader.readexactly(2)
            handshake.receive_data(length + await reader.readexactly(int.from_bytes(length)))
            writer.write(handshake.data_to_send())
            await reader.read()

    await check_dial_fails(answer)
    assert handshakes


async def check_dial_fails(answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    """Dial a listener that answers by `answer`; it must fail for what it says, and not wait for a deadline."""
    from ipvcs.multiformats.multiaddr import Multiaddr

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with TcpHost() as client, server:
        with anyio.fail_after(60), pytest.raises((DialError, HandshakeError)):  # `dial` has no deadline of its own
            await client.transport.dial(Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}"), None, client)
