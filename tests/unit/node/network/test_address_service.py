"""The address book at work: it hears of connections and survives a restart."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network import address_service
from ipvcs.node.network.address_book import LIFETIMES, Source
from ipvcs.node.network.address_service import AddressService
from ipvcs.storage.home import Home, open_home
from tests.fakes.memory_network import MemoryNetwork, key_of
from tests.fakes.memory_swarm import running_swarms

pytestmark = pytest.mark.anyio

PEER = key_of("somebody").peer_id
ADDR = Multiaddr.parse("/ip4/192.0.2.1/tcp/4001")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path / "home") as opened:
        yield opened


async def test_where_a_peer_was_reached_is_known_after_a_restart(home: Home) -> None:
    async with MemoryNetwork() as network, running_swarms(network, "us", "them") as (us, them):
        async with AddressService.open(home.datastore) as addresses:
            us.subscribe(addresses)
            await us.connect(them.info)
            us.unsubscribe(addresses)
        async with AddressService.open(home.datastore) as restarted:
            assert restarted.addrs(them.peer_id) == them.addresses()
            assert restarted.known() == {them.peer_id: them.addresses()}
            assert restarted.known(PEER) == {}


async def test_addresses_age_from_the_end_of_the_last_connection(home: Home) -> None:
    async with (
        MemoryNetwork() as network,
        running_swarms(network, "us", "them") as (us, them),
        AddressService.open(home.datastore) as addresses,
    ):
        us.subscribe(addresses)
        await us.connect(them.info)
        second = await them.connect(us.info)  # theirs, or the same
        later = anyio.current_time() + 10 * LIFETIMES[Source.REACHED]
        assert addresses.book.addrs(them.peer_id, later)
        await second.aclose()
        await us.disconnect(them.peer_id)
        assert addresses.addrs(them.peer_id)
        assert not addresses.book.addrs(them.peer_id, later)


async def test_changes_are_saved_while_it_runs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_service, "SAVE_INTERVAL", 0.05)
    async with AddressService.open(home.datastore) as addresses:
        addresses.book.add(PEER, (ADDR,), Source.USER, anyio.current_time())
        await anyio.sleep(0.5)
        async with AddressService.open(home.datastore) as other:  # as after a SIGKILL
            assert other.addrs(PEER) == (ADDR,)
