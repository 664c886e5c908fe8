"""Nodes that fetch from each other over the network in memory."""

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.exchange.interface import BlockUnavailableError
from ipvcs.node.exchange.ledger import Ledger
from ipvcs.node.exchange.messages import PROTOCOLS, WantEntry, encode_answers, encode_wants
from ipvcs.node.exchange.service import REFUSED_FOR
from ipvcs.node.network.delimited import encode_delimited
from ipvcs.node.network.interface import PeerInfo, Stream
from tests.fakes.exchange_swarm import CorruptingStore, exchanging, leaves, parent
from tests.fakes.memory_network import MemoryNetwork, key_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


async def test_a_dag_comes_whole_from_the_peer_that_has_it() -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        below = leaves(300)
        root = parent(parent(*below[:150]), parent(*below[150:]))
        middle = [parent(*below[:150]), parent(*below[150:])]
        bob.has([root, *middle, *below])
        await alice.connect(bob)

        done = await alice.fetch(root.cid)

        assert done.blocks == 303
        for block in (root, *middle, *below):
            assert alice.store.get(block.cid) == block.data
        assert alice.service.stat().dup_blocks_received == 0
        assert anyio.current_time() < 1
        assert bob.ledgers.get(alice.peer_id).bytes_sent == done.bytes
        assert alice.ledgers.get(bob.peer_id).bytes_received == done.bytes


async def test_nobody_has_it_is_an_error_that_says_who_was_asked() -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        await alice.connect(bob)
        (block,) = leaves(1)
        with pytest.raises(BlockUnavailableError, match="within 20 seconds: 1 connected peer was asked, and no provid"):
            await alice.fetch(block.cid, timeout=20)
        assert anyio.current_time() == pytest.approx(20, abs=0.1)
        assert alice.routing.searches[0] == block.cid


async def test_an_interrupted_fetch_goes_on_where_it_was() -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        below = leaves(200, size=100_000)
        root = parent(*below)
        bob.has([root, *below[:100]])
        await alice.connect(bob)
        with pytest.raises(BlockUnavailableError):
            await alice.fetch(root.cid, timeout=5)
        sent = bob.service.stat().blocks_sent
        assert sent == 101
        bob.has(below[100:])
        done = await alice.fetch(root.cid)
        assert (done.blocks, done.local) == (100, 101)
        assert bob.service.stat().blocks_sent == 201, "nothing twice"


async def test_a_block_that_comes_later_is_sent_to_who_waits_for_it() -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        (block,) = leaves(1)
        await alice.connect(bob)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alice.fetch, block.cid)
            await anyio.sleep(3)
            bob.has([block])
            since = anyio.current_time()
        assert alice.store.has(block.cid)
        assert anyio.current_time() - since < 2


async def test_the_holder_is_found_by_its_provider_record_alone() -> None:
    async with exchanging("alice", "bob", "carol") as (alice, bob, carol):
        below = leaves(50)
        root = parent(*below)
        carol.has([root, *below])
        await alice.connect(bob)
        alice.routing.providers[root.cid.multihash] = [carol.swarm.info]
        await alice.fetch(root.cid)
        assert carol.service.stat().blocks_sent == 51


async def test_a_provider_without_addresses_is_looked_up() -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        (block,) = leaves(1)
        bob.has([block])
        alice.routing.providers[block.cid.multihash] = [PeerInfo(bob.peer_id)]
        alice.routing.peers[bob.peer_id] = bob.swarm.info
        await alice.fetch(block.cid)
        assert alice.store.has(block.cid)


async def test_provider_records_that_lie_cost_time_and_nothing_else() -> None:
    async with exchanging("alice", "liar", "honest") as (alice, liar, honest):
        (block,) = leaves(1)
        honest.has([block])
        nowhere = PeerInfo(key_of("nobody").peer_id, (Multiaddr.parse("/ip4/10.9.9.9/tcp/1"),))
        alice.routing.providers[block.cid.multihash] = [nowhere, liar.swarm.info, honest.swarm.info]
        await alice.fetch(block.cid)
        assert honest.service.stat().blocks_sent == 1
        assert liar.service.stat().blocks_sent == 0


async def test_the_fetch_ends_well_when_one_of_two_holders_dies() -> None:
    async with MemoryNetwork(latency=0.01) as network, exchanging("alice", "bob", "carol", network=network) as parties:
        alice, bob, carol = parties
        below = leaves(400, size=50_000)
        root = parent(*below)
        for holder in (bob, carol):
            holder.has([root, *below])
            await alice.connect(holder)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alice.fetch, root.cid)
            while alice.service.stat().blocks_received < 50:
                await anyio.sleep(0.01)
            network.kill(alice.peer_id, bob.peer_id)
        assert all(alice.store.has(block.cid) for block in below)
        assert alice.service.stat().dup_blocks_received <= 0.05 * 401


async def test_a_peer_behind_a_partition_is_replaced_and_used_again_when_it_heals() -> None:
    async with MemoryNetwork(latency=0.01) as network, exchanging("alice", "bob", network=network) as (alice, bob):
        below = leaves(100, size=10_000)
        root = parent(*below)
        bob.has([root, *below])
        await alice.connect(bob)
        network.partition(alice.peer_id, bob.peer_id)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alice.fetch, root.cid)
            await anyio.sleep(20)
            network.heal(alice.peer_id, bob.peer_id)
        assert all(alice.store.has(block.cid) for block in below)


async def test_a_peer_that_sends_other_bytes_is_cut_off_and_not_asked_again() -> None:
    async with exchanging("alice", "mallory", "bob") as (alice, mallory, bob):
        below = leaves(20)
        root = parent(*below)
        for holder in (mallory, bob):
            holder.has([root, *below])
        corrupting = CorruptingStore()
        corrupting.put_many([root, *below])
        mallory.local.store = corrupting
        await alice.connect(mallory)
        with pytest.raises(BlockUnavailableError):
            await alice.fetch(root.cid, timeout=10)
        assert not alice.swarm.connections(mallory.peer_id)
        assert list(alice.store.iter_cids()) == []
        await mallory.swarm.connect(alice.swarm.info)
        await anyio.sleep(1)
        assert not alice.swarm.connections(mallory.peer_id), "it is remembered"
        await alice.connect(bob)
        await alice.fetch(root.cid)
        assert alice.ledgers.get(mallory.peer_id).bytes_received == 0
        await anyio.sleep(REFUSED_FOR)
        await mallory.swarm.connect(alice.swarm.info)
        await anyio.sleep(1)
        assert alice.swarm.connections(mallory.peer_id), "but not for ever"


async def test_blocks_that_nobody_asked_for_are_not_stored_and_end_the_connection() -> None:
    async with exchanging("alice", "mallory") as (alice, mallory):
        gift = leaves(1)[0]
        await mallory.connect(alice)
        stream = await mallory.swarm.open_stream(alice.peer_id, PROTOCOLS)
        for piece in encode_answers([(gift.cid, gift.data)]):
            await stream.send(piece)
        await anyio.sleep(1)
        assert not alice.store.has(gift.cid)
        assert not alice.swarm.connections(mallory.peer_id)


async def test_garbage_ends_the_stream_and_not_the_connection() -> None:
    async with exchanging("alice", "mallory") as (alice, mallory):
        await mallory.connect(alice)
        for garbage in (b"\x05\xff\xff\xff\xff\xff", b"\xff" * 10, encode_delimited(b"\x0a\x7f\x01")):
            stream = await mallory.swarm.open_stream(alice.peer_id, PROTOCOLS)
            await stream.send(garbage)
            with pytest.raises(anyio.BrokenResourceError):
                await stream.receive()
        assert alice.swarm.connections(mallory.peer_id)


async def test_a_peer_that_wants_a_hundred_thousand_blocks_and_reads_nothing_costs_a_bounded_amount() -> None:
    async with exchanging("alice", "mallory", "bob") as (alice, mallory, bob):
        blocks = leaves(2000, size=100_000)
        alice.has(blocks)
        await mallory.connect(alice)
        mute = anyio.Event()

        async def read_nothing(stream: Stream) -> None:
            await mute.wait()

        for protocol in PROTOCOLS:
            mallory.swarm.unhandle(protocol)
            mallory.swarm.handle(protocol, read_nothing)
        stream = await mallory.swarm.open_stream(alice.peer_id, PROTOCOLS)
        wants = [WantEntry(blocks[number % 2000].cid, send_dont_have=True) for number in range(5000)]
        for _ in range(20):
            await stream.send(encode_delimited(encode_wants(wants)))
        await anyio.sleep(5)
        assert alice.store.reads < 150, "what is not read is not loaded"
        await bob.connect(alice)
        since = anyio.current_time()
        await bob.fetch(*(block.cid for block in blocks[:50]))
        assert anyio.current_time() - since < 2, "and others are served"
        mute.set()


async def test_one_wantlist_that_repeats_a_cid_is_answered_once() -> None:
    async with exchanging("alice", "mallory") as (alice, mallory):
        (block,) = leaves(1, size=200_000)
        alice.has([block])
        await mallory.connect(alice)
        stream = await mallory.swarm.open_stream(alice.peer_id, PROTOCOLS)
        await stream.send(encode_delimited(encode_wants([WantEntry(block.cid)] * 500)))
        await anyio.sleep(2)
        assert alice.service.stat().blocks_sent == 1


async def test_peers_that_refuse_bitswap_are_left_alone() -> None:
    async with exchanging("alice", "bob", "carol") as (alice, bob, carol):
        (block,) = leaves(1)
        carol.has([block])
        for protocol in PROTOCOLS:
            bob.swarm.unhandle(protocol)
        await alice.connect(bob)
        await alice.connect(carol)
        await alice.fetch(block.cid)
        assert alice.store.has(block.cid)


@pytest.mark.parametrize("protocol", PROTOCOLS[1:])
async def test_peers_of_older_versions_are_fetched_from_and_served(protocol: str) -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        below = leaves(30)
        root = parent(*below)
        bob.has([root, *below])
        for party in (alice, bob):
            for other in PROTOCOLS:
                if other != protocol:
                    party.swarm.unhandle(other)
        await alice.connect(bob)
        done = await alice.fetch(root.cid)
        assert done.blocks == 31


async def test_four_holders_share_the_work() -> None:
    async with exchanging("alice", "b", "c", "d", "e", latency=0.02) as (alice, *holders):
        below = leaves(1000, size=20_000)
        root = parent(*below)
        for holder in holders:
            holder.has([root, *below])
            await alice.connect(holder)
        await alice.fetch(root.cid)
        sent = [holder.service.stat().blocks_sent for holder in holders]
        assert sum(sent) <= 1001 * 1.05, "duplicates stay below five in a hundred"
        assert min(sent) > 0


async def test_two_fetches_of_one_dag_ask_for_each_block_once() -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        below = leaves(100)
        root = parent(*below)
        bob.has([root, *below])
        await alice.connect(bob)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alice.fetch, root.cid)
            tasks.start_soon(alice.fetch, root.cid)
        assert bob.service.stat().blocks_sent == 101


async def test_a_cancelled_fetch_withdraws_what_it_wants() -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        wanted = leaves(10)
        await alice.connect(bob)
        with anyio.move_on_after(2):
            await alice.fetch(*(block.cid for block in wanted))
        assert alice.service.wantlist() == []
        await anyio.sleep(1)
        assert bob.service.wantlist(alice.peer_id) == []


async def test_the_engine_refuses_whom_the_strategy_refuses() -> None:
    class Never:
        ignore_cooldown = 10.0

        def serves(self, ledger: Ledger) -> bool:
            return False

    async with exchanging("alice", "bob", strategy=Never) as (alice, bob):
        (block,) = leaves(1)
        bob.has([block])
        await alice.connect(bob)
        with pytest.raises(BlockUnavailableError):
            await alice.fetch(block.cid, timeout=30)
        assert bob.service.stat().blocks_sent == 0
