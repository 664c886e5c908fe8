"""One end of a benchmark of streams: a process that serves, or one that sends, over a stack that it is told.

    python -m bench.stream_worker serve STACK [--uvloop]          prints `ADDRESS PEER`, serves until stdin ends
    python -m bench.stream_worker send STACK ADDRESS PEER TASK N  does the task, prints one line of JSON

STACK is `tcp` (asyncio's BufferedProtocol and nothing else: the most that Python gives), `noise` or `tls` (with yamux).
TASK is `bulk` (N bytes over one stream), `opens` (N streams one after the other, 32 bytes echoed on each), `connects`
(N connections one after the other, a stream echoed on each).
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any, cast

import anyio

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import generate_key
from ipvcs.node.network.interface import Connection, Stream
from ipvcs.node.network.limits import Resources
from ipvcs.node.network.stack import NOISE, TLS, YAMUX, StackSettings, make_tcp_transport
from ipvcs.node.network.tcp import TcpTransport

MIB = 1024 * 1024
PIECE = 1 * MIB
SECURITY = {"noise": NOISE, "tls": TLS}
BULK, ECHO = "/bench/bulk", "/bench/echo"


def usage() -> dict[str, float]:
    """Return the CPU seconds and the peak memory (MiB) of this process."""
    times = os.times()
    with open("/proc/self/status") as status:  # noqa: PTH123
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return {"cpu": times.user + times.system, "peak": peak / 1024}


# ---- plain TCP ----


class PlainSink(asyncio.BufferedProtocol):
    """Counts what arrives, into one buffer; answers with the count at the end."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(512 * 1024))
        self._count = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of another class

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._count += nbytes

    def eof_received(self) -> bool:
        self._transport.write(json.dumps({"count": self._count, **usage()}).encode())
        return False


class PlainSource(asyncio.Protocol):
    """Sends as the transport takes it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[bytes] = loop.create_future()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._answer = b""

    def data_received(self, data: bytes) -> None:
        self._answer += data

    def connection_lost(self, _exc: Exception | None) -> None:
        self.answer.set_result(self._answer)

    def pause_writing(self) -> None:
        self._resumed.clear()

    def resume_writing(self) -> None:
        self._resumed.set()

    async def drain(self) -> None:
        await self._resumed.wait()


async def serve_plain() -> None:
    server = await asyncio.get_running_loop().create_server(PlainSink, "127.0.0.1", 0)
    print(f"/ip4/127.0.0.1/tcp/{server.sockets[0].getsockname()[1]} -", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def send_plain(addr: Multiaddr, size: int) -> dict[str, Any]:
    transport, source = await asyncio.get_running_loop().create_connection(
        PlainSource, "127.0.0.1", int(addr.value_for("tcp") or 0)
    )
    transport.set_write_buffer_limits(1024 * 1024)
    piece = bytes(PIECE)
    began = time.perf_counter()
    for _ in range(size // PIECE):
        transport.write(piece)
        await source.drain()
        await asyncio.sleep(0)
    transport.write_eof()
    answer = json.loads(await source.answer)
    assert answer["count"] == size
    return {"seconds": time.perf_counter() - began, "server": answer}


# ---- our stack ----


class Owner:
    """Serves the benchmark's protocols; nothing of a swarm is in the way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, Callable[[Stream], Coroutine[Any, Any, None]]] = {BULK: take_bulk, ECHO: echo}

    def on_stream(self, stream: Stream) -> bool:
        task = asyncio.get_running_loop().create_task(self._handlers[stream.protocol](stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def on_closed(self, _connection: Connection, _reason: BaseException | None) -> None:
        pass

    def served_protocols(self) -> Collection[str]:
        return self._handlers.keys()


async def take_bulk(stream: Stream) -> None:
    count = 0
    with suppress(anyio.EndOfStream):
        while True:
            count += len(await stream.receive_chunk())
    await stream.send(json.dumps({"count": count, **usage()}).encode())
    await stream.aclose()


async def echo(stream: Stream) -> None:
    with suppress(anyio.EndOfStream):
        while True:
            await stream.send(await stream.receive_chunk())
    await stream.aclose()


def make_transport(stack: str) -> tuple[PeerId, TcpTransport]:
    key = generate_key()
    settings = StackSettings(security={SECURITY[stack]: 1}, muxers={YAMUX: 1})
    return key.peer_id, make_tcp_transport(key, settings, Resources())


async def serve(stack: str) -> None:
    peer_id, transport = make_transport(stack)
    owner = Owner()

    async def accept(_connection: Connection) -> Owner:
        return owner

    listener = await transport.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0"), accept)
    print(f"{listener.addrs[0]} {peer_id}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def send_bulk(connection: Connection, size: int) -> dict[str, Any]:
    stream = await connection.open_stream([BULK])
    piece = bytes(PIECE)
    began = time.perf_counter()
    for _ in range(size // PIECE):
        await stream.send(piece)
    await stream.send_eof()
    answer = json.loads(await stream.receive())
    assert answer["count"] == size
    return {"seconds": time.perf_counter() - began, "server": answer}


async def exchange(connection: Connection) -> None:
    """Open a stream, send 32 bytes, read them back, close."""
    stream = await connection.open_stream([ECHO], lazy=True)
    await stream.send(bytes(32))
    await stream.send_eof()
    with suppress(anyio.EndOfStream):
        while True:
            await stream.receive()
    await stream.aclose()


async def send(options: argparse.Namespace) -> dict[str, Any]:
    addr = Multiaddr.parse(options.address)
    if options.stack == "tcp":
        return await send_plain(addr, options.count)
    _peer_id, transport = make_transport(options.stack)
    expected, owner = PeerId.parse(options.peer), Owner()
    if options.task == "connects":
        seconds = []
        for _ in range(options.count):
            began = time.perf_counter()
            connection = await transport.dial(addr, expected, owner)
            seconds.append(time.perf_counter() - began)
            await exchange(connection)
            await connection.aclose()
        return {
            "seconds": sum(seconds),
            "median_ms": statistics.median(seconds) * 1000,
            "worst_ms": max(seconds) * 1000,
        }
    connection = await transport.dial(addr, expected, owner)
    if options.task == "bulk":
        result = await send_bulk(connection, options.count)
    else:
        began = time.perf_counter()
        for _ in range(options.count):
            await exchange(connection)
        result = {"seconds": time.perf_counter() - began}
    await connection.aclose()
    return result


async def main_async(options: argparse.Namespace) -> None:
    if options.role == "serve":
        await (serve_plain() if options.stack == "tcp" else serve(options.stack))
        return
    before = usage()["cpu"]
    result = await send(options)
    after = usage()
    print(json.dumps({**result, "cpu": after["cpu"] - before, "peak": after["peak"]}), flush=True)


def main() -> None:
    """Run one end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["serve", "send"])
    parser.add_argument("stack", choices=["tcp", "noise", "tls"])
    parser.add_argument("address", nargs="?")
    parser.add_argument("peer", nargs="?")
    parser.add_argument("task", nargs="?", choices=["bulk", "opens", "connects"])
    parser.add_argument("count", nargs="?", type=int)
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    if options.uvloop:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main_async(options))
    else:
        asyncio.run(main_async(options))


if __name__ == "__main__":
    main()
