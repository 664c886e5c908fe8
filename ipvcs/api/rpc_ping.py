"""`ping`: round trips to a peer, one line each as they come.

Shape: Kubo's core/commands/ping.go, PingResult: `Time` in nanoseconds; lines with a `Text` are for people.
"""

from typing import Any, Final

from ipvcs.api.arguments import BadRequestError
from ipvcs.api.command import MAX_DEADLINE, Call, Command
from ipvcs.errors import UnavailableError
from ipvcs.multiformats.peer_address import parse_peer
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo

_DEFAULT_COUNT: Final = 10  # Kubo's
_MAX_COUNT: Final = 86_400
"""As many as `MAX_DEADLINE` has seconds."""


class PingSelfError(BadRequestError):
    """This node was asked to ping itself."""

    def __init__(self) -> None:
        super().__init__("can't ping self", hint="name another peer")


class PingFailedError(UnavailableError):
    """Not one ping was answered."""

    exit_code = 1

    def __init__(self, peer_id: PeerId) -> None:
        super().__init__("ping failed")
        self.peer_id = peer_id


async def ping(call: Call) -> None:
    """Ping the peer named, by id or address, `count` times."""
    peer_id, addr = parse_peer(call.arguments.args[0])
    peer = PeerInfo(peer_id, () if addr is None else (addr,))
    if peer_id == call.node.peer_id:
        raise PingSelfError
    count = call.arguments.integer("count", "n", default=_DEFAULT_COUNT, least=1, most=_MAX_COUNT)
    # A peer out of reach is one error with its reason, not `count` failed pings.
    await call.node.swarm.connect(peer, force=True)
    await call.emit(_line(text=f"PING {peer.peer_id}."))
    answered, total = 0, 0.0
    async with call.node.ping.ping(peer.peer_id, count=count) as results:
        async for result in results:
            if result.rtt is None:
                await call.emit(_line(success=False, text=f"Ping error: {result.error}"))
            else:
                answered, total = answered + 1, total + result.rtt
                await call.emit(_line(seconds=result.rtt))
    if not answered:
        raise PingFailedError(peer.peer_id)
    await call.emit(_line(text=f"Average latency: {1000 * total / answered:.2f}ms"))


def _line(*, success: bool = True, seconds: float = 0, text: str = "") -> dict[str, Any]:
    return {"Success": success, "Time": round(seconds * 1e9), "Text": text}


COMMANDS: Final = (Command("ping", ping, ("peer ID",), deadline=MAX_DEADLINE),)
