"""Shapes: Kubo's core/commands/id.go (IdOutput), core/commands/version (VersionInfo) and shutdown.go."""

import base64
import re
from collections.abc import Awaitable, Callable

import pytest

from ipvcs import __version__
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.identity.keys import PublicKey
from tests.unit.api.asgi import Response
from tests.unit.api.fake_node import FACTS, OTHER, PEER, PEER_KEY, FakeConnection, FakeNode

pytestmark = pytest.mark.anyio
Post = Callable[[str], Awaitable[Response]]
ADDR = Multiaddr.parse("/ip4/10.0.0.1/tcp/4001")


async def test_id_tells_who_we_are(call: Post, node: FakeNode) -> None:
    answer = (await call("id")).json
    own = str(node.peer_id)
    assert list(answer) == ["ID", "PublicKey", "Addresses", "AgentVersion", "Protocols"]
    assert answer["ID"] == own
    assert answer["Addresses"] == [f"/ip4/127.0.0.1/tcp/4001/p2p/{own}", f"/ip4/192.168.1.2/tcp/4001/p2p/{own}"]
    assert answer["AgentVersion"] == f"ipvcs/{__version__}"
    assert answer["Protocols"] == ["/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"]
    assert PublicKey.decode(base64.b64decode(answer["PublicKey"])).peer_id == node.peer_id


async def test_id_of_our_own_id_dials_nobody(call: Post, node: FakeNode) -> None:
    assert (await call(f"id?arg={node.peer_id}")).json == (await call("id")).json
    assert node.swarm.dialled == []


async def test_id_of_a_peer_meets_it_and_tells_what_it_says(call: Post, node: FakeNode) -> None:
    node.swarm.reachable[PEER] = FakeConnection(PEER, ADDR)
    node.identify.known[PEER] = FACTS
    node.known[PEER] = [ADDR]
    answer = (await call(f"id?arg={PEER}")).json
    assert answer == {
        "ID": str(PEER),
        "PublicKey": base64.b64encode(PEER_KEY.public_key.encode()).decode(),
        "Addresses": [f"/ip4/10.0.0.1/tcp/4001/p2p/{PEER}", f"/ip4/10.0.0.2/tcp/4001/p2p/{PEER}"],
        "AgentVersion": "kubo/0.39.0/\ufffd[31m",
        "Protocols": ["/ipfs/bitswap/1.2.0", "/ipfs/ping/1.0.0"],
    }


async def test_id_of_a_peer_out_of_reach_says_why(call: Post) -> None:
    response = await call(f"id?arg={OTHER}")
    assert response.status == 500
    assert (response.json["Message"], response.json["Hint"]) == (f"cannot reach '{OTHER}'", "is it up?")


async def test_id_of_what_is_no_peer_id_is_an_error(call: Post, node: FakeNode) -> None:
    response = await call("id?arg=nobody")
    assert response.status == 400
    assert response.json["ExitCode"] == 129
    assert "invalid peer id 'nobody'" in response.json["Message"]


@pytest.mark.parametrize(
    ("base", "shape"), [("b58mh", "12D3KooW"), ("k", "k51"), ("base36", "k51"), ("base32", "bafzaa")]
)
async def test_id_writes_the_id_in_the_base_asked_for(call: Post, base: str, shape: str) -> None:
    """Kubo's core/commands/keyencode: b58mh, k, or a multibase; addresses keep the usual form."""
    answer = (await call(f"id?peerid-base={base}")).json
    assert answer["ID"].startswith(shape)
    assert all("/p2p/12D3KooW" in addr for addr in answer["Addresses"])


async def test_id_in_an_unknown_base_is_the_clients_fault(call: Post, node: FakeNode) -> None:
    response = await call(f"id?arg={OTHER}&peerid-base=base99")
    assert (response.status, node.swarm.dialled) == (400, [])


async def test_version_has_kubos_fields(call: Post) -> None:
    answer = (await call("version")).json
    assert list(answer) == ["Version", "Commit", "Repo", "System", "Golang"]
    assert answer["Version"] == __version__
    assert answer["Repo"].isdigit()
    assert re.fullmatch(r"\w+/linux", answer["System"])


async def test_shutdown_asks_the_node_to_end_and_answers_nothing(call: Post, node: FakeNode) -> None:
    response = await call("shutdown")
    assert (response.status, response.body, node.shutdowns) == (200, b"", 1)
