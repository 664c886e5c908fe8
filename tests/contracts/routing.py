"""What every `Routing` promises: the promises of `ipvcs.node.routing.interface`, each as a test.

A subclass says how to open a `RoutingWorld`: a router, and what another node published before. Where a router can't do
something by its nature, as one that asks nobody, its subclass says so and the contract holds it to saying so itself.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.interface import (
    InvalidValueError,
    NoRoutingPeersError,
    PeerNotFoundError,
    Routing,
    ValueNotFoundError,
    ValueRouting,
    get_value,
)
from ipvcs.node.routing.validators import PublicKeyValidator, Validators
from ipvcs.objects.block import Block

STRANGER = PeerId.from_public_key(b"\x08\x01\x12\x20" + b"nobody has met this one".ljust(32))
CIDS = [Block.of(f"block {number}".encode()).cid for number in range(4)]
WORLD_DEADLINE = 600.0
"""Seconds of the mock clock for one test."""


class NumberValidator:
    """The rules of a namespace for tests, `/n/`: decimal numbers, the larger the better; `7@100` is valid until 100."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        number, _, until = value.partition(b"@")
        if not number.isdigit() or (until and float(until) < now):
            raise InvalidValueError(f"{value[:40]!r} is no number that is valid now")

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        numbers = [int(value.partition(b"@")[0]) for value in values]
        return numbers.index(max(numbers))


VALIDATOR = Validators({b"n": NumberValidator(), b"pk": PublicKeyValidator()})
"""What a router under this contract holds values against."""
KEY = b"/n/a key\xff/with a slash"
OTHER_KEY = b"/n/another"


@dataclass(frozen=True)
class RoutingWorld:
    """A router, and the rest of the world as far as it is needed."""

    router: Routing
    own: PeerId
    """Who the router's node is."""
    other: PeerInfo
    """A node that the router can find, and that published what `open` was told."""
    elsewhere: Routing
    """A router of another node than ours; where there is none, the same one."""


class RoutingContract:
    """What every Routing promises. Subclass it and supply `open`."""

    finds_peers = True
    """Whether it can know where peers are."""
    provides = True
    """Whether it can tell anybody what we have; else `provide` raises NoRoutingPeersError."""
    tells_others = True
    """Whether those that are told are others than we."""
    takes_values = True
    """Whether it can store values; else `set_value` raises NoRoutingPeersError, and no value is found."""

    def open(
        self, *, provided: Sequence[Cid] = (), values: Mapping[bytes, bytes] | None = None
    ) -> AbstractAsyncContextManager[RoutingWorld]:
        """Open a world in which the other node provides `provided` and has published `values`."""
        raise NotImplementedError

    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, object]]:
        return "trio", {"clock": MockClock(autojump_threshold=0)}

    async def test_a_peer_is_found_with_an_address(self) -> None:
        async with self.open(provided=CIDS[:1]) as world:
            with anyio.fail_after(WORLD_DEADLINE):
                if not self.finds_peers:
                    with pytest.raises((PeerNotFoundError, NoRoutingPeersError)):
                        await world.router.find_peer(world.other.peer_id)
                    return
                found = await world.router.find_peer(world.other.peer_id)
            assert found.peer_id == world.other.peer_id
            assert set(found.addrs) & set(world.other.addrs)

    async def test_a_peer_that_nobody_knows_is_an_error_that_names_it(self) -> None:
        async with self.open() as world:
            with anyio.fail_after(WORLD_DEADLINE), pytest.raises((PeerNotFoundError, NoRoutingPeersError)) as caught:
                await world.router.find_peer(STRANGER)
            if isinstance(caught.value, PeerNotFoundError):
                assert caught.value.peer_id == STRANGER

    async def test_a_provider_is_found_once(self) -> None:
        async with self.open(provided=CIDS[:2]) as world:
            for cid in CIDS[:2]:
                assert [peer.peer_id for peer in await providers(world.router, cid)] == [world.other.peer_id]

    async def test_all_cids_of_one_multihash_have_the_same_providers(self) -> None:
        async with self.open(provided=CIDS[:1]) as world:
            for cid in (CIDS[0].with_codec(0x70), CIDS[0].with_codec(0x70).to_v0()):
                assert [peer.peer_id for peer in await providers(world.router, cid)] == [world.other.peer_id]

    async def test_what_nobody_has_has_no_providers_and_that_is_no_error(self) -> None:
        async with self.open(provided=CIDS[:1]) as world:
            assert await providers(world.router, CIDS[3]) == []

    async def test_a_search_that_is_left_early_leaves_the_router_fit_for_the_next(self) -> None:
        async with self.open(provided=CIDS[:1], values={KEY: b"1"}) as world:
            with anyio.fail_after(WORLD_DEADLINE):
                async with world.router.find_providers(CIDS[0]) as found:
                    async for _peer in found:
                        break
                async with world.router.find_providers(CIDS[0]):
                    pass
                async with world.router.search_value(KEY):
                    pass
            assert len(await providers(world.router, CIDS[0])) == 1

    async def test_an_error_in_a_search_s_block_comes_out_as_it_is(self) -> None:
        async with self.open(provided=CIDS[:1], values={KEY: b"1"}) as world:
            with anyio.fail_after(WORLD_DEADLINE):
                with pytest.raises(KeyError, match="mine"):
                    await raise_at_the_first_of(world.router.find_providers(CIDS[0]))
                with pytest.raises(KeyError, match="mine"):
                    async with world.router.search_value(KEY):
                        raise KeyError("mine")

    async def test_a_search_can_be_cancelled(self) -> None:
        async with self.open(provided=CIDS[:1]) as world:
            with anyio.CancelScope() as scope:
                async with world.router.find_providers(CIDS[0]) as found:
                    scope.cancel()
                    async for _peer in found:
                        await anyio.sleep(0)
            assert scope.cancelled_caught or scope.cancel_called
            assert len(await providers(world.router, CIDS[0])) == 1

    async def test_what_we_provide_is_found_by_others(self) -> None:
        async with self.open() as world:
            with anyio.fail_after(WORLD_DEADLINE):
                if not self.provides:
                    with pytest.raises(NoRoutingPeersError):
                        await world.router.provide(CIDS[2])
                    return
                told = await world.router.provide(CIDS[2])
            assert (told >= 1) == self.tells_others
            assert world.own in [peer.peer_id for peer in await providers(world.elsewhere, CIDS[2])]

    async def test_providing_twice_makes_no_second_provider(self) -> None:
        if not self.provides:
            return
        async with self.open() as world:
            with anyio.fail_after(WORLD_DEADLINE):
                await world.router.provide(CIDS[2])
                await world.router.provide(CIDS[2].with_codec(0x70))
            assert [peer.peer_id for peer in await providers(world.elsewhere, CIDS[2])] == [world.own]

    async def test_a_value_that_was_published_is_found(self) -> None:
        async with self.open(values={KEY: b"5", OTHER_KEY: b"6"}) as world:
            if not self.takes_values:
                assert await values_under(world.router, KEY) == []
                return
            with anyio.fail_after(WORLD_DEADLINE):
                assert await get_value(world.router, KEY) == b"5"
                assert await get_value(world.router, OTHER_KEY, quorum=1) == b"6"

    async def test_no_value_is_no_error_of_a_search(self) -> None:
        async with self.open() as world:
            assert await values_under(world.router, KEY) == []
            with anyio.fail_after(WORLD_DEADLINE), pytest.raises((ValueNotFoundError, NoRoutingPeersError)):
                await get_value(world.router, KEY)

    async def test_what_we_publish_is_found_by_others(self) -> None:
        async with self.open() as world:
            with anyio.fail_after(WORLD_DEADLINE):
                if not self.takes_values:
                    with pytest.raises(NoRoutingPeersError):
                        await world.router.set_value(KEY, b"7")
                    return
                assert await world.router.set_value(KEY, b"7") >= 1
                assert await get_value(world.elsewhere, KEY) == b"7"

    async def test_a_better_value_replaces_a_worse_one(self) -> None:
        if not self.takes_values:
            return
        async with self.open(values={KEY: b"5"}) as world:
            with anyio.fail_after(WORLD_DEADLINE):
                await world.router.set_value(KEY, b"10")
            found = await values_under(world.elsewhere, KEY)
            assert found[-1] == b"10"
            assert found == sorted(set(found), key=int), "each is better than the one before"

    async def test_a_value_that_is_not_valid_is_refused_and_found_nowhere(self) -> None:
        async with self.open() as world:
            for key, value in ((KEY, b"no number"), (b"/x/unknown", b"1"), (b"no key", b"1")):
                with anyio.fail_after(WORLD_DEADLINE), pytest.raises((InvalidValueError, NoRoutingPeersError)) as error:
                    await world.router.set_value(key, value)
                assert isinstance(error.value, InvalidValueError) or not self.takes_values
            assert await values_under(world.elsewhere, KEY) == []


async def raise_at_the_first_of(search: AbstractAsyncContextManager[AsyncIterator[object]]) -> None:
    """Raise KeyError inside of a search's block."""
    async with search as found:
        async for _each in found:
            raise KeyError("mine")


async def providers(router: Routing, cid: Cid) -> list[PeerInfo]:
    """Return all that a search finds."""
    with anyio.fail_after(WORLD_DEADLINE):
        async with router.find_providers(cid) as found:
            return [peer async for peer in found]


async def values_under(router: ValueRouting, key: bytes) -> list[bytes]:
    """Return all that a search finds, in order."""
    with anyio.fail_after(WORLD_DEADLINE):
        async with router.search_value(key) as found:
            return [value async for value in found]
