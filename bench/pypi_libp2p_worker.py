"""One end of the same benchmark over PyPI's `libp2p`; runs in a virtual environment of its own, see `bench.streams`.

python pypi_libp2p_worker.py serve
python pypi_libp2p_worker.py send ADDRESS_WITH_PEER SIZE
"""

import json
import os
import sys
import time
from typing import Any

import multiaddr
import trio
from libp2p import create_yamux_muxer_option, new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport

BULK = TProtocol("/bench/bulk")
PIECE = 1024 * 1024


def usage() -> dict[str, float]:
    times = os.times()
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return {"cpu": times.user + times.system, "peak": peak / 1024}


def make_host() -> Any:
    pair = create_new_key_pair()
    noise = NoiseTransport(libp2p_keypair=pair, noise_privkey=create_noise_key().private_key)
    return new_host(key_pair=pair, sec_opt={NOISE: noise}, muxer_opt=create_yamux_muxer_option())


async def take_bulk(stream: Any) -> None:
    expected = int.from_bytes(await stream.read(8), "big")
    count = 0
    while count < expected:
        count += len(await stream.read(PIECE))
    await stream.write(json.dumps({"count": count, **usage()}).encode())
    await stream.close()


async def serve() -> None:
    host = make_host()
    host.set_stream_handler(BULK, take_bulk)
    async with host.run(listen_addrs=[multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        addr = str(host.get_addrs()[0])
        print(addr if "/p2p/" in addr else f"{addr}/p2p/{host.get_id()}", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)


async def send(address: str, size: int) -> None:
    host = make_host()
    async with host.run(listen_addrs=[]):
        info = info_from_p2p_addr(multiaddr.Multiaddr(address))
        await host.connect(info)
        stream = await host.new_stream(info.peer_id, [BULK])
        piece = bytes(PIECE)
        before, began = usage()["cpu"], time.perf_counter()
        await stream.write(size.to_bytes(8, "big"))
        for _ in range(size // PIECE):
            await stream.write(piece)
        answer = json.loads(await stream.read(4096))
        seconds = time.perf_counter() - began
        assert answer["count"] == size
        after = usage()
        print(
            json.dumps({"seconds": seconds, "server": answer, "cpu": after["cpu"] - before, "peak": after["peak"]}),
            flush=True,
        )
        os._exit(0)  # its own end takes long


if sys.argv[1] == "serve":
    trio.run(serve)
else:
    trio.run(send, sys.argv[2], int(sys.argv[3]))
