"""`stats …`: the DHTs' routing tables, and what was announced.

Shapes: Kubo's core/commands/stat_dht.go, dhtStat, and boxo's provider.ReproviderStats. Times are RFC 3339 in UTC, ""
for never (in `LastRun`, Go's zero time); durations are nanoseconds.
"""

from datetime import UTC, datetime
from typing import Any, Final

from ipvcs.api.arguments import BadRequestError
from ipvcs.api.command import Call, Command
from ipvcs.api.rpc_id import clean
from ipvcs.node.routing.dht_stats import TablePeer

_MAX_DHTS: Final = 8
"""Arguments of `dht`."""
_NEVER: Final = "0001-01-01T00:00:00Z"


async def dht(call: Call) -> None:
    """Tell who is in the routing tables named, by default in all of them, a line for each."""
    stats = {each.name: each for each in call.node.dht_stats()}
    for name in call.arguments.args:
        if name not in stats:
            raise BadRequestError(f"unknown dht type: {name[:40]}", hint=f"one of: {', '.join(stats) or 'none runs'}")
    for name in call.arguments.args or stats:
        buckets = [
            {"LastRefresh": _time(bucket.last_refresh), "Peers": [_peer(call, peer) for peer in bucket.peers]}
            for bucket in stats[name].buckets
        ]
        await call.emit({"Name": name, "Buckets": buckets})


async def provide(call: Call) -> None:
    """Tell what was announced since the start, a line for each router; the first is the nearest network's."""
    for name, stats in call.node.provide_stats().items():
        await call.emit(
            {
                "TotalReprovides": stats.total,
                "LastReprovideBatchSize": stats.last_size,
                "ReprovideInterval": round(stats.interval * 1e9),
                "AvgReprovideDuration": round(stats.average_duration * 1e9),
                "LastReprovideDuration": round(stats.last_duration * 1e9),
                "LastRun": _time(stats.last_run) or _NEVER,
                "Name": name,
            }
        )


def _peer(call: Call, peer: TablePeer) -> dict[str, Any]:
    facts = call.node.identify.facts(peer.peer_id)
    return {
        "ID": str(peer.peer_id),
        "Connected": bool(call.node.swarm.connections(peer.peer_id)),
        "AgentVersion": "" if facts is None else clean(facts.agent_version),
        "LastUsefulAt": _time(peer.last_useful),
        "LastQueriedAt": _time(peer.last_queried),
    }


def _time(when: float | None) -> str:
    return "" if when is None else datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


COMMANDS: Final = (
    Command("stats/dht", dht, most=_MAX_DHTS),
    Command("stats/provide", provide),
)
