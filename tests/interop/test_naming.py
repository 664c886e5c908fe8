"""IPNS records with real Kubo and Helia: ours stored and resolved by them, theirs by us, tampered ones by nobody.

Kubo 0.22, as we have it, publishes and resolves nothing on demand: it stores records, and validates what it stores.
"""

import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import anyio
import pytest

from ipvcs.errors import NotFoundError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import KeyType, PrivateKey, generate_key
from ipvcs.node.naming.record import IpnsRecord, encode_data
from ipvcs.node.naming.record import encode_message as encode_record
from ipvcs.node.naming.validator import routing_key
from ipvcs.node.naming.validity import format_validity
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.node import Node
from ipvcs.node.routing.kad_message import (
    KadMessage,
    MessageType,
    Record,
)
from ipvcs.node.routing.kad_profile import LAN
from ipvcs.node.routing.kad_rpc import KadRequestError, KadRpc
from tests.interop import kubo_datastore
from tests.interop.dht_world import SERVERS, Server, World, open_world
from tests.interop.json_peer import PeerError
from tests.interop.kubo_peer import KuboPeer
from tests.interop.lying_server import lying
from tests.interop.network_node import open_test_node
from tests.interop.remote import Remote

pytestmark = pytest.mark.anyio

ENOUGH = 50.0  # seconds for a test on a busy machine; 1 to 3 on an idle one
KEY_TYPES = (KeyType.ED25519, KeyType.RSA)
ONE = "/ipfs/bafkqabtimvwgy3yk"
_DATA = 9  # the field of an IpnsEntry that is signed
OTHER = "/ipfs/bafkqabtxn5zgwzak"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    with anyio.fail_after(ENOUGH):
        async with open_world(request, tmp_path) as world:
            yield world


@pytest.fixture(scope="module")
def keys() -> dict[KeyType, PrivateKey]:
    """A key of each type; RSA's are slow to make, and records with them carry the public key."""
    return {key_type: generate_key(key_type) for key_type in KEY_TYPES}


def path_of(name: PeerId) -> str:
    return f"/ipns/{name.to_base36()}"


async def resolve(remote: Remote, name: PeerId) -> list[str]:
    """Return what a Helia finds under `name`, the best last; raises PeerError when that is nothing."""
    values: list[str] = (await remote.call("ipnsResolve", name=path_of(name)))["values"]
    return values


async def put(node: Node, server: Server, name: PeerId, value: bytes) -> bool:
    """Send `server` a record and tell whether it took it."""
    key = routing_key(name)
    request = KadMessage(MessageType.PUT_VALUE, key, Record(key, value))
    try:
        answer = await KadRpc(node.swarm, LAN.protocol).ask(PeerInfo(server.peer_id, (server.addr,)), request)
    except KadRequestError:
        return False
    return answer.message.record is not None and answer.message.record.value == value


async def stored(node: Node, server: Server, name: PeerId) -> bytes | None:
    """Return the record that `server` itself has."""
    request = KadMessage(MessageType.GET_VALUE, routing_key(name))
    answer = await KadRpc(node.swarm, LAN.protocol).ask(PeerInfo(server.peer_id, (server.addr,)), request)
    return None if answer.message.record is None else answer.message.record.value


def tampered(record: IpnsRecord) -> dict[str, bytes]:
    """Return records that are like `record`, and that its key never signed."""
    raw = record.raw
    other_value = raw.replace(ONE.encode(), OTHER.encode())
    assert len(other_value) == len(raw)
    assert other_value != raw
    broken_signature = bytearray(raw)
    broken_signature[raw.index(record.signature) + 10] ^= 1
    return {
        "another value": other_value,
        "a broken signature": bytes(broken_signature),
        "cut off": raw[: len(raw) // 2],
        "another's": sign(generate_key(), ONE, 9, record.expires_ns).raw,
    }


def sign(key: PrivateKey, path: str, sequence: int, expires_ns: int) -> IpnsRecord:
    return IpnsRecord.sign(key, path.encode(), sequence=sequence, expires_ns=expires_ns, ttl_ns=60 * 10**9)


# ---- ours at theirs ----


@pytest.mark.parametrize("key_type", KEY_TYPES, ids=lambda key_type: key_type.name.lower())
@pytest.mark.parametrize("name", SERVERS)
async def test_our_record_is_stored_by_the_server_and_resolved_from_there(
    world: World, keys: dict[KeyType, PrivateKey], name: str, key_type: KeyType
) -> None:
    server = await world.server(name)
    owner = await world.holder(server)
    key = keys[key_type]
    published = await owner.names.publish(ONE, key=key, allow_offline=True)
    assert await put(owner, server, published.name, published.record.raw)
    assert await stored(owner, server, published.name) == published.record.raw

    reader = await world.node(server)

    assert (await reader.names.resolve(path_of(published.name))).path == ONE
    assert (await reader.names.resolve(path_of(published.name))).record == published.record


@pytest.mark.parametrize("key_type", KEY_TYPES, ids=lambda key_type: key_type.name.lower())
@pytest.mark.parametrize("name", ["kubo", "ours"])
async def test_helia_resolves_what_we_publish_and_then_what_replaces_it(
    world: World, keys: dict[KeyType, PrivateKey], name: str, key_type: KeyType
) -> None:
    server = await world.server(name)
    reader, owner = await world.client("helia", server), await world.node(server)

    first = await owner.names.publish(ONE, key=keys[key_type])
    assert (await resolve(reader, first.name))[-1] == ONE
    second = await owner.names.publish(OTHER, key=keys[key_type])

    assert second.sequence == first.sequence + 1
    assert (await resolve(reader, first.name))[-1] == OTHER
    assert await stored(owner, server, first.name) == second.record.raw


@pytest.mark.parametrize("name", ["kubo", "ours"])  # Helia takes whatever is valid
async def test_an_older_record_does_not_replace_a_newer_one(world: World, name: str) -> None:
    server = await world.server(name)
    owner = await world.holder(server)
    key = generate_key()
    first = (await owner.names.publish(ONE, key=key, allow_offline=True)).record
    second = (await owner.names.publish(OTHER, key=key, allow_offline=True)).record
    assert await put(owner, server, key.peer_id, first.raw)
    assert await put(owner, server, key.peer_id, second.raw)

    await put(owner, server, key.peer_id, first.raw)

    assert await stored(owner, server, key.peer_id) == second.raw


# ---- theirs at ours ----


@pytest.mark.parametrize("legacy", [True, False], ids=["v1-and-v2", "v2-only"])
@pytest.mark.parametrize("name", ["kubo", "ours"])
async def test_we_resolve_what_helia_publishes_and_then_what_replaces_it(world: World, name: str, legacy: bool) -> None:
    server = await world.server(name)
    owner, reader = await world.client("helia", server), await world.node(server)

    published = await owner.call("ipnsPublish", value=ONE, v1Compatible=legacy)
    first = await reader.names.resolve(published["name"], nocache=True)
    await owner.call("ipnsPublish", value=OTHER, v1Compatible=legacy)
    second = await reader.names.resolve(published["name"], nocache=True)

    assert (first.path, second.path) == (ONE, OTHER)
    assert first.record is not None
    assert second.record is not None
    assert second.record.sequence == first.record.sequence + 1
    assert bool(second.record.signature_v1) == legacy


@pytest.mark.long  # Kubo's republisher begins a minute after its start, and that is no setting
@pytest.mark.timeout(150)
@pytest.mark.parametrize("identity", ["ed25519", "rsa"])
async def test_we_resolve_what_kubo_publishes(tmp_path: Path, identity: Literal["ed25519", "rsa"]) -> None:
    """It signs anew what its datastore says it has published: nothing of a record but its data is looked at there."""
    with KuboPeer(tmp_path / "kubo", identity=identity) as kubo:
        name = PeerId.parse(kubo.peer_id)
    expires_ns = (int(time.time()) + 3600) * 10**9
    seed = encode_record({_DATA: encode_data(ONE.encode(), 6, format_validity(expires_ns), 60 * 10**9)})
    kubo_datastore.put(kubo.repo, b"/ipns/" + base64.b32encode(name.raw).rstrip(b"="), seed)

    with KuboPeer(tmp_path / "kubo", identity=identity) as kubo, anyio.fail_after(120):
        assert kubo.peer_id == str(name)
        async with open_test_node(tmp_path / "home") as node:
            remote = Remote(kubo)
            await node.swarm.connect(PeerInfo(remote.peer_id, (remote.addr,)))
            server = Server(remote.peer_id, remote.addr, remote=remote)
            while await stored(node, server, name) is None:
                await anyio.sleep(1)
            resolved = await node.names.resolve(path_of(name), nocache=True)

    assert resolved.path == ONE
    assert resolved.record is not None
    assert resolved.record.sequence >= 6
    assert bool(resolved.record.public_key) == (identity == "rsa")


# ---- tampered ----


@pytest.mark.parametrize("name", SERVERS)
async def test_a_tampered_record_is_refused_by_every_server(world: World, name: str) -> None:
    server = await world.server(name)
    owner = await world.holder(server)
    key = generate_key()
    record = (await owner.names.publish(ONE, key=key, allow_offline=True)).record

    for what, raw in tampered(record).items():
        assert not await put(owner, server, key.peer_id, raw), what
        assert await stored(owner, server, key.peer_id) is None, what

    assert await put(owner, server, key.peer_id, record.raw), "and the true one is taken after that"
    for what, raw in tampered(record).items():
        assert not await put(owner, server, key.peer_id, raw), what
        assert await stored(owner, server, key.peer_id) == record.raw, what


async def test_a_tampered_record_from_helia_is_refused_by_us(world: World) -> None:
    server = await world.server("ours")
    liar, owner = await world.client("helia", server), await world.holder(server)
    record = (await owner.names.publish(ONE, allow_offline=True)).record
    key = routing_key(owner.peer_id)

    for what, raw in tampered(record).items():
        answer = await liar.call("dhtPut", keyB64=b64(key), b64=b64(raw))
        assert answer["stored"] == [], what
        assert await stored(owner, server, owner.peer_id) is None, what

    answer = await liar.call("dhtPut", keyB64=b64(key), b64=b64(record.raw))
    assert answer["stored"] == [str(server.peer_id)]


async def test_a_tampered_record_that_a_server_tells_is_believed_neither_by_helia_nor_by_us(world: World) -> None:
    expires_ns = (int(time.time()) + 3600) * 10**9
    honest, *victims = [(key.peer_id, sign(key, ONE, 1, expires_ns)) for key in (generate_key() for _ in range(5))]
    lies = {routing_key(honest[0]): honest[1].raw}
    for number, (name, record) in enumerate(victims):
        lies[routing_key(name)] = list(tampered(record).values())[number]
    assert len(victims) == len(tampered(honest[1]))

    server = await world.enter(lying(lies))
    helia, ours = await world.client("helia", server), await world.node(server)
    assert await resolve(helia, honest[0]) == [ONE]
    assert (await ours.names.resolve(path_of(honest[0]))).path == ONE
    for name, _record in victims:
        with pytest.raises(PeerError, match="ipnsResolve"):
            await resolve(helia, name)
        with pytest.raises(NotFoundError):
            await ours.names.resolve(path_of(name))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
