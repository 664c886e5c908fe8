"""Records what Kubo and Helia send on a yamux connection, as vectors: see tests/vectors/yamux/SOURCE.md.

    python -m tests.interop.netns -- python -m tests.interop.record_yamux DIRECTORY

Keys, ids and addresses in them are of nodes that live for a second.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from ipvcs.node.network.interface import Buffer, Direction
from ipvcs.node.network.limits import MIB
from ipvcs.node.network.muxer import StreamKey
from ipvcs.node.network.yamux import YamuxSession, YamuxStream
from tests.interop import netns, network_node
from tests.interop.helia_peer import HeliaPeer
from tests.interop.kubo_peer import KuboPeer
from tests.interop.network_node import YAMUX, connect, open_stack, ping
from tests.interop.remote import Remote


class RecordingSession(YamuxSession):
    """A session that notes what comes in and what we do, in order."""

    def __init__(self, initiator: bool) -> None:
        super().__init__(initiator=initiator, max_inbound_streams=1000, max_window=16 * MIB, window_growth=32 * MIB)
        self.steps: list[list[Any]] = []

    def receive_data(self, data: Buffer, now: float) -> None:
        self.steps.append(["receive", bytes(data).hex()])
        super().receive_data(data, now)

    def open_stream(self) -> StreamKey:
        key = super().open_stream()
        self.steps.append(["open", _stream_id(key)])
        return key

    def send(self, key: StreamKey, data: memoryview) -> int:
        taken = super().send(key, data)
        self.steps.append(["send", _stream_id(key), taken])
        return taken

    def end(self, key: StreamKey) -> None:
        self.steps.append(["end", _stream_id(key)])
        super().end(key)

    def reset(self, key: StreamKey) -> None:
        self.steps.append(["reset", _stream_id(key)])
        super().reset(key)

    def ping(self, now: float) -> bool:
        self.steps.append(["ping"])
        return super().ping(now)


def _stream_id(key: StreamKey) -> int:
    assert isinstance(key, YamuxStream)
    return key.stream_id


async def record(remote: Remote, direction: Direction) -> dict[str, Any]:
    """Return a session: identify both ways, pings, an echo if it has one, and its goodbye."""
    sessions: list[RecordingSession] = []

    def make(initiator: bool) -> RecordingSession:
        sessions.append(RecordingSession(initiator))
        return sessions[-1]

    network_node.MUXERS[YAMUX] = make
    async with open_stack() as node:
        connection = await connect(node, remote, direction)
        await node.identify.wait_identified(connection)
        await ping(node, remote)
        await ping(node, remote)
        if remote.helia:
            await remote.call("ping", addr=str(node.peer_id))
            stream = await connection.open_stream(["/test/echo/1.0.0"])
            await stream.send(b"echo")
            assert await stream.receive() == b"echo"
            await stream.aclose()
        await anyio.sleep(1)  # what is on its way arrives
        await to_thread.run_sync(remote.process.close)
        await connection.wait_closed()
    (session,) = sessions
    return {"initiator": direction == "outbound", "steps": session.steps}


async def _run(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        kubo = await to_thread.run_sync(lambda: KuboPeer(Path(scratch) / "kubo", identity="ed25519"))
        helia = await to_thread.run_sync(lambda: HeliaPeer(Path(scratch) / "helia", "--kad", "none"))
        for name, recorded in (
            ("kubo", await record(Remote(kubo), "outbound")),
            ("helia", await record(Remote(helia), "inbound")),
        ):
            lines = ",\n".join(f"  {json.dumps(step)}" for step in recorded["steps"])
            text = f'{{"initiator": {json.dumps(recorded["initiator"])}, "steps": [\n{lines}\n]}}\n'
            (target / f"{name}.json").write_text(text)


if __name__ == "__main__":
    netns.check_isolated()
    anyio.run(_run, Path(sys.argv[1]))
