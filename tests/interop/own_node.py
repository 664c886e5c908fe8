"""A node of ours as a process of its own, to be killed or stopped: `OwnNode` starts it, lines of JSON drive it.

    python -m tests.interop.own_node HOME

The end of stdin ends it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_address import parse_peer_address
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.node import Node
from tests.interop import netns
from tests.interop.json_peer import JsonPeer
from tests.interop.network_node import open_test_node, own_addr

_CHECKOUT = Path(__file__).parents[2]


class OwnNode(JsonPeer):
    """One node. `with OwnNode(directory) as own: own.dial(addr)`."""

    def __init__(self, directory: Path) -> None:
        """Start it on a new home below `directory`. Raises PeerError when it does not start."""
        directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.interop.own_node", str(directory / "home")]
        super().__init__("ipvcs", command, directory / "stderr.log", cwd=_CHECKOUT)
        self.peer_id = PeerId.parse(self.info["id"])
        self.addr = Multiaddr.parse(self.info["addr"])

    def dial(self, addr: Multiaddr) -> None:
        """Have it connect to `addr`. Raises PeerError."""
        self.request("dial", within=20, addr=str(addr))


async def _answer(node: Node, request: dict[str, Any]) -> dict[str, Any]:
    try:
        assert request["cmd"] == "dial"
        peer_id, addr = parse_peer_address(request["addr"])
        await node.swarm.connect(PeerInfo(peer_id, () if addr is None else (addr,)), force=True)
    except Exception as exc:
        return {"id": request["id"], "ok": False, "error": repr(exc)}
    return {"id": request["id"], "ok": True}


async def _run(home: Path) -> None:
    async with open_test_node(home) as node:
        print(json.dumps({"event": "ready", "id": str(node.peer_id), "addr": str(own_addr(node))}), flush=True)
        while line := await to_thread.run_sync(sys.stdin.readline):
            print(json.dumps(await _answer(node, json.loads(line))), flush=True)


if __name__ == "__main__":
    netns.check_isolated()
    anyio.run(_run, Path(sys.argv[1]))
