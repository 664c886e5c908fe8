"""Shape: Kubo's core/commands/bootstrap.go, BootstrapOutput."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

import pytest

from ipvcs.storage.bootstrap import DEFAULT_PEERS
from ipvcs.storage.config import Config
from tests.unit.api.asgi import Response
from tests.unit.api.fake_node import OTHER, PEER, FakeNode

pytestmark = pytest.mark.anyio
Post = Callable[[str], Awaitable[Response]]
FIRST, SECOND, THIRD = f"/ip4/10.0.0.1/tcp/4001/p2p/{PEER}", f"/ip6/::1/tcp/1/p2p/{PEER}", f"/dns/x/tcp/1/p2p/{OTHER}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the settings are read in a thread, which a mock clock does not wait for


def saved(node: FakeNode) -> list[str]:
    return list(Config.load(node.config.path).get("Bootstrap"))


async def test_the_list_is_told_by_both_its_names(call: Post, node: FakeNode) -> None:
    assert (await call("bootstrap")).json == {"Peers": []}
    node.config.set("Bootstrap", [FIRST])
    assert (await call("bootstrap")).json == (await call("bootstrap/list")).json == {"Peers": [FIRST]}


async def test_the_list_is_read_from_the_file_each_time(call: Post, node: FakeNode) -> None:
    Config.load(node.config.path).set("Bootstrap", [FIRST])  # as `ipvcs config` does meanwhile
    assert (await call("bootstrap")).json == {"Peers": [FIRST]}


async def test_what_is_added_is_told_and_saved(call: Post, node: FakeNode) -> None:
    node.config.set("Bootstrap", [THIRD])
    assert (await call(f"bootstrap/add?arg={quote(FIRST)}&arg={quote(SECOND)}")).json == {"Peers": [FIRST, SECOND]}
    assert saved(node) == [FIRST, SECOND, THIRD]


@pytest.mark.parametrize("target", ["bootstrap/add/default", "bootstrap/add?default=true", "bootstrap/add?arg=default"])
async def test_the_public_networks_peers_are_added_by_name(call: Post, node: FakeNode, target: str) -> None:
    assert (await call(target)).json == {"Peers": list(DEFAULT_PEERS)}
    assert saved(node) == list(DEFAULT_PEERS)


async def test_what_is_removed_is_told_and_saved(call: Post, node: FakeNode) -> None:
    node.config.set("Bootstrap", [FIRST, SECOND, THIRD])
    assert (await call(f"bootstrap/rm?arg={quote(FIRST)}")).json == {"Peers": [FIRST]}
    assert saved(node) == [SECOND, THIRD]


@pytest.mark.parametrize("target", ["bootstrap/rm/all", "bootstrap/rm?all=true"])
async def test_all_are_removed_by_name(call: Post, node: FakeNode, target: str) -> None:
    node.config.set("Bootstrap", [FIRST, THIRD])
    assert (await call(target)).json == {"Peers": [FIRST, THIRD]}
    assert saved(node) == []


@pytest.mark.parametrize("target", ["bootstrap/add", "bootstrap/add?arg=/ip4/1.2.3.4/tcp/1", "bootstrap/rm"])
async def test_what_makes_no_sense_is_the_clients_fault(call: Post, target: str) -> None:
    assert (await call(target)).status == 400
