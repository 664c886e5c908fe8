"""Shapes: Kubo's core/commands/stat_dht.go, dhtStat, and boxo's provider.ReproviderStats."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from ipvcs.api import rpc_stats
from ipvcs.api.app import build_app
from ipvcs.api.node_services import NodeServices
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.routing.dht_stats import DhtStats, TableBucket, TablePeer
from ipvcs.node.routing.provider_service import ProvideStats
from tests.unit.api.asgi import Response, request
from tests.unit.api.fake_node import FACTS, OTHER, PEER, FakeConnection, FakeNode

pytestmark = pytest.mark.anyio
Post = Callable[[str], Awaitable[Response]]


@dataclass
class StatsNode(FakeNode):
    tables: list[DhtStats] = field(default_factory=list)
    announced: dict[str, ProvideStats] = field(default_factory=dict)

    def dht_stats(self) -> list[DhtStats]:
        return self.tables

    def provide_stats(self) -> dict[str, ProvideStats]:
        return self.announced


@pytest.fixture
def node(tmp_path: Path) -> StatsNode:
    return StatsNode(tmp_path)


@pytest.fixture
def call(node: StatsNode) -> Post:
    app = build_app(cast("NodeServices", node), shutdown=node.request_shutdown, commands=rpc_stats.COMMANDS)

    async def post(target: str) -> Response:
        return await request(app, f"/api/v0/stats/{target}")

    return post


async def test_each_dht_is_a_line_with_its_buckets(call: Post, node: StatsNode) -> None:
    node.tables = [
        DhtStats(
            "lan", [TableBucket([TablePeer(PEER, 1_800_000_000.7, 1_800_000_001.0)], 1_700_000_000.0), TableBucket()]
        ),
        DhtStats("wan", [TableBucket([TablePeer(OTHER)])]),
    ]
    node.swarm.open = [FakeConnection(PEER, Multiaddr.parse("/ip4/10.0.0.1/tcp/1"))]
    node.identify.known[PEER] = FACTS
    known = {
        "ID": str(PEER),
        "Connected": True,
        "AgentVersion": "kubo/0.39.0/\ufffd[31m",
        "LastUsefulAt": "2027-01-15T08:00:00Z",
        "LastQueriedAt": "2027-01-15T08:00:01Z",
    }
    stranger = {"ID": str(OTHER), "Connected": False, "AgentVersion": "", "LastUsefulAt": "", "LastQueriedAt": ""}
    lan = {
        "Name": "lan",
        "Buckets": [{"LastRefresh": "2023-11-14T22:13:20Z", "Peers": [known]}, {"LastRefresh": "", "Peers": []}],
    }
    wan = {"Name": "wan", "Buckets": [{"LastRefresh": "", "Peers": [stranger]}]}
    assert (await call("dht")).lines == [lan, wan]
    assert (await call("dht?arg=wan")).lines == [wan]
    assert (await call("dht?arg=wan&arg=lan")).lines == [wan, lan]


async def test_a_dht_that_does_not_run_is_refused(call: Post, node: StatsNode) -> None:
    node.tables = [DhtStats("lan", [])]
    response = await call("dht?arg=lan&arg=wanserver")
    assert (response.status, response.json["Message"]) == (400, "unknown dht type: wanserver")
    assert response.json["Hint"] == "one of: lan"
    assert (await call("dht")).lines == [{"Name": "lan", "Buckets": []}]


async def test_what_was_announced_is_told_for_each_network(call: Post, node: StatsNode) -> None:
    node.announced = {
        "lan": ProvideStats(0, 0.0, 0.0, 0, None, 79200.0),
        "wan": ProvideStats(1000, 0.25, 12.5, 50, 1_800_000_000.0, 79200.0),
    }
    lan, wan = (await call("provide")).lines
    assert lan == {
        "TotalReprovides": 0,
        "LastReprovideBatchSize": 0,
        "ReprovideInterval": 79_200_000_000_000,
        "AvgReprovideDuration": 0,
        "LastReprovideDuration": 0,
        "LastRun": "0001-01-01T00:00:00Z",
        "Name": "lan",
    }
    assert wan["TotalReprovides"] == 1000
    assert (wan["AvgReprovideDuration"], wan["LastReprovideDuration"]) == (250_000_000, 12_500_000_000)
    assert (wan["LastRun"], wan["LastReprovideBatchSize"]) == ("2027-01-15T08:00:00Z", 50)
