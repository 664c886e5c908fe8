"""The attackers of `bench.attack`, in a process of their own: prints `ready`, and attacks until it is ended.

    python -m bench.attack_worker ATTACK HOST PORT

They speak by `tests.fakes.raw_peer`, which sends what no implementation of the protocols would. A connection that is
cut off comes back as another peer, as an attacker would.
"""

import argparse
import asyncio
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Final

from ipvcs.node.identity.keys import PrivateKey, generate_key
from ipvcs.node.network.multistream import HEADER, encode_message
from tests.fakes.raw_peer import RawPeer

_DATA, _WINDOW = 0, 1
_SYN, _FIN, _RST = 1, 4, 8
_BATCH: Final = 200
"""Streams a message."""
_IDENTIFY, _PING = "/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a yamux frame."""
    return struct.pack("!BBHII", 0, kind, flags, stream, len(payload)) + payload


def ask(stream: int, protocol: str, flags: int) -> bytes:
    """Return the frames of a stream for `protocol`, the last one with `flags`."""
    return frame(_WINDOW, _SYN, stream) + frame(_DATA, flags, stream, HEADER + encode_message(protocol))


async def empty_frames(peer: RawPeer) -> None:
    """Send frames that carry nothing."""
    await peer.send(ask(1, _PING, 0))
    while True:
        await peer.send(5000 * frame(_DATA, 0, 1))


async def tiny_frames(peer: RawPeer) -> None:
    """Send frames of one byte each."""
    await peer.send(ask(1, _PING, 0))
    while True:
        await peer.send(5000 * frame(_DATA, 0, 1, b"x"))


async def newcomer(_peer: RawPeer) -> None:
    """Stay, and say nothing."""
    await asyncio.sleep(3600)


async def identify(peer: RawPeer) -> None:
    """Ask who the other side is, on stream after stream, each whole and proper."""
    for first in count(1, 2 * _BATCH):
        await peer.send(b"".join(ask(stream, _IDENTIFY, _FIN) for stream in range(first, first + 2 * _BATCH, 2)))


async def abandon(peer: RawPeer) -> None:
    """Open streams for ping and reset them at once."""
    for first in count(1, 2 * _BATCH):
        streams = range(first, first + 2 * _BATCH, 2)
        await peer.send(b"".join(ask(stream, _PING, 0) + frame(_WINDOW, _RST, stream) for stream in streams))


async def pile_up(peer: RawPeer) -> None:
    """Open streams for ping and leave them open."""
    for first in count(1, 2 * _BATCH):
        await peer.send(b"".join(ask(stream, _PING, 0) for stream in range(first, first + 2 * _BATCH, 2)))


Attack = Callable[[RawPeer], Awaitable[None]]

ATTACKS: Final[dict[str, tuple[Attack, int, bool]]] = {
    "empty": (empty_frames, 16, False),
    "tiny": (tiny_frames, 8, False),
    "newcomers": (newcomer, 1100, False),
    "identify": (identify, 8, False),
    "identify-one": (identify, 8, True),
    "abandon": (abandon, 8, False),
    "pile-up": (pile_up, 8, False),
}
"""What each connection does, how many there are, and whether all of them are one peer's."""


async def keep_attacking(
    attack: Attack, host: str, port: int, key: PrivateKey | None, slots: asyncio.Semaphore
) -> None:
    """Attack on one connection after the other."""
    while True:
        with suppress(OSError, EOFError, TimeoutError):
            async with slots:
                peer = await RawPeer.connect(host, port)
                peer.key = key or peer.key
                await peer.secure()
            attacking = asyncio.ensure_future(attack(peer))
            with suppress(OSError):
                while await peer.reader.read(1024 * 1024):
                    pass
            attacking.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await attacking
            await peer.aclose()
        await asyncio.sleep(0.1)


async def run(name: str, host: str, port: int) -> None:
    """Do the attack for ever."""
    attack, connections, is_one_peer = ATTACKS[name]
    key = generate_key() if is_one_peer else None
    slots = asyncio.Semaphore(64)
    print("ready", flush=True)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(keep_attacking(attack, host, port, key, slots))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("attack", choices=ATTACKS)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.attack, arguments.host, arguments.port))
