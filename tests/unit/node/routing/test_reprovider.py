"""What is to be announced, and the table that remembers what was."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import UsageError
from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.node.routing import reprovider
from ipvcs.node.routing.reprovider import ProvidedTable, Reprovider, Strategy, WalkState, keyspace_position
from ipvcs.objects import dag_pb
from ipvcs.objects.block import Block
from ipvcs.storage.datastore import Datastore, open_datastore
from ipvcs.storage.memory import MemoryBlockstore
from ipvcs.storage.pins import Pin, PinMode, Pins

_MEMORY = Path("/dev/shm")
NOW = 1_800_000_000.0
DAY = 86_400.0


@pytest.fixture
def datastore() -> Iterator[Datastore]:
    with tempfile.TemporaryDirectory(prefix="ipvcs-", dir=_MEMORY if _MEMORY.is_dir() else None) as path:
        store = open_datastore(Path(path), make=True, sync=False)
        yield store
        store.close()


def leaf(name: str) -> Block:
    return Block.of(name.encode())


def parent(*children: Block) -> Block:
    links = (dag_pb.PBLink(child.cid, b"%d" % number, len(child.data)) for number, child in enumerate(children))
    return Block.of(dag_pb.encode(dag_pb.PBNode(tuple(links), b"")), codecs.DAG_PB)


LEAVES = [leaf(f"leaf {number}") for number in range(4)]
TREE = parent(LEAVES[0], LEAVES[1])
TOP = parent(TREE, LEAVES[2])


class World:
    """A home's pins and blocks, and a reprovider that may be restarted."""

    def __init__(self, datastore: Datastore, strategy: Strategy, name: str = "lan") -> None:
        self.datastore = datastore
        self.blocks = MemoryBlockstore()
        self.blocks.put_many([*LEAVES, TREE, TOP])
        self.pins = Pins(datastore)
        self.strategy = strategy
        self.name = name
        self.restart()

    def restart(self) -> None:
        self.reprovider = Reprovider(self.datastore, self.blocks, self.strategy, self.name)

    def pin(self, *blocks: Block, mode: PinMode = PinMode.RECURSIVE) -> None:
        self.pins.add(Pin(block.cid, mode) for block in blocks)

    def look(self) -> set[bytes]:
        """Look at the pins, and return the new roots."""
        if not self.reprovider.has_new_pins():
            return set()
        return {root for roots in self.reprovider.look(NOW) for root in roots}

    def walk(self, wall: float = NOW) -> None:
        for _slice in self.reprovider.walk(wall):
            pass

    def listed(self) -> set[bytes]:
        return {cid.multihash for cid in all_due(self.reprovider.table, NOW + 10**9, 1)}


def all_due(table: ProvidedTable, wall: float, interval: float, *, again: bool = False, most: int = 3) -> list[Cid]:
    found: list[Cid] = []
    start: bytes | None = b""
    while start is not None:
        due = table.due(start, most, wall, interval, again=again)
        assert len(due.cids) <= most
        found += due.cids
        start = due.end
    return found


def names(*blocks: Block) -> set[bytes]:
    return {block.cid.multihash for block in blocks}


# ---- the table ----


def test_what_was_never_announced_is_due_and_then_after_the_interval(datastore: Datastore) -> None:
    table = ProvidedTable(datastore, "lan")
    keys = sorted(names(*LEAVES), key=keyspace_position)
    assert table.note(keys, 1) == 4
    assert [cid.multihash for cid in all_due(table, NOW, DAY)] == keys
    table.mark(keys[:2], NOW)
    assert [cid.multihash for cid in all_due(table, NOW + DAY - 1, DAY)] == keys[2:]
    assert [cid.multihash for cid in all_due(table, NOW + DAY, DAY)] == keys
    assert [cid.multihash for cid in all_due(table, NOW + DAY, DAY, again=True)] == keys[:2]
    assert [cid.multihash for cid in all_due(table, NOW + 10 * DAY, 0)] == keys[2:], "0: never again"
    assert all_due(table, NOW + 10 * DAY, 0, again=True) == []
    assert table.note(keys, 2) == 0
    assert len(all_due(table, NOW + 1, DAY)) == 2, "to be seen again is not to be new"


def test_it_comes_in_the_order_of_the_dht_s_keyspace(datastore: Datastore) -> None:
    table = ProvidedTable(datastore, "lan")
    keys = [leaf(str(number)).cid.multihash for number in range(200)]
    table.note(keys, 1)
    in_order = sorted(keys, key=lambda key: hashlib.sha256(key).digest())
    assert [cid.multihash for cid in all_due(table, NOW, DAY, most=7)] == in_order


def test_a_time_in_the_future_is_a_wrong_clock_s_and_due(datastore: Datastore) -> None:
    table = ProvidedTable(datastore, "lan")
    table.note(names(*LEAVES), 1)
    table.mark(names(*LEAVES), NOW + 10**8)
    assert len(all_due(table, NOW, DAY)) == 4
    table.mark(names(*LEAVES), NOW + 30)
    assert all_due(table, NOW, DAY) == []


def test_each_router_has_a_table_of_its_own(datastore: Datastore) -> None:
    near, far, third = (ProvidedTable(datastore, name) for name in ("lan", "wan", "la"))
    near.note(names(*LEAVES), 1)
    far.note(names(TREE), 1)
    near.mark(names(*LEAVES), NOW)
    assert (len(near), len(far), len(third)) == (4, 1, 0)
    assert [cid.multihash for cid in all_due(far, NOW, DAY)] == list(names(TREE))
    assert all_due(third, NOW, DAY) == []
    assert sum(near.drop_others(2)) == 4
    assert (len(near), len(far)) == (0, 1)
    state = WalkState(7, NOW, b"x" * 32, "pinned")
    far.set_state(state)
    assert (far.state(), near.state()) == (state, WalkState())
    assert len(far) == 1


def test_what_was_unpinned_while_it_was_announced_does_not_come_back(datastore: Datastore) -> None:
    table = ProvidedTable(datastore, "lan")
    table.mark(names(TREE), NOW)
    assert len(table) == 0


def test_large_tables_are_read_and_written_in_slices(datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reprovider, "_SLICE", 3)
    monkeypatch.setattr(reprovider, "_SCAN", 4)
    table = ProvidedTable(datastore, "lan")
    keys = [leaf(str(number)).cid.multihash for number in range(25)]
    assert table.note(keys, 1) == 25
    assert table.note(keys[:10], 2) == 0
    assert len(all_due(table, NOW, DAY, most=2)) == 25
    counts = list(table.drop_others(2))
    assert sum(counts) == 15
    assert max(counts) <= 3
    assert {cid.multihash for cid in all_due(table, NOW, DAY)} == set(keys[:10])
    assert all_due(table, NOW, DAY, again=True) == []


operations = st.lists(
    st.tuples(st.sampled_from(["note", "mark", "drop", "wait"]), st.sets(st.integers(0, 9)), st.integers(1, 3)),
    max_size=20,
)


@given(script=operations)
def test_the_table_does_what_a_dict_would(script: Sequence[tuple[str, set[int], int]]) -> None:
    keys = [multihash.sum_(bytes([number])) for number in range(10)]
    model: dict[bytes, tuple[float, int]] = {}
    now = NOW
    with tempfile.TemporaryDirectory(prefix="ipvcs-", dir=_MEMORY if _MEMORY.is_dir() else None) as path:
        store = open_datastore(Path(path), make=True, sync=False)
        try:
            table = ProvidedTable(store, "lan")
            for what, numbers, walk in script:
                chosen = [keys[number] for number in numbers]
                if what == "note":
                    assert table.note(chosen, walk) == len(set(chosen) - model.keys())
                    model |= {key: (model.get(key, (0.0, 0))[0], walk) for key in chosen}
                elif what == "mark":
                    table.mark(chosen, now)
                    model |= {key: (now, model[key][1]) for key in chosen if key in model}
                elif what == "drop":
                    gone = [key for key, (_last, seen) in model.items() if seen != walk]
                    assert sum(table.drop_others(walk)) == len(gone)
                    for key in gone:
                        del model[key]
                else:
                    now += walk * 10.0
                due = {key for key, (last, _walk) in model.items() if last == 0 or last + 20 <= now}
                assert {cid.multihash for cid in all_due(table, now, 20)} == due
                assert len(table) == len(model)
        finally:
            store.close()


# ---- the strategies ----


def test_a_strategy_goes_by_its_name() -> None:
    assert [Strategy.parse(name) for name in ("roots", "pinned", "all")] == list(Strategy)
    with pytest.raises(UsageError, match="unknown strategy 'none'") as caught:
        Strategy.parse("none")
    assert caught.value.hint == "one of: roots, pinned, all"


def test_roots_are_what_is_pinned_in_either_mode(datastore: Datastore) -> None:
    world = World(datastore, Strategy.ROOTS)
    world.pin(TOP)
    world.pin(LEAVES[3], mode=PinMode.DIRECT)
    assert world.look() == world.listed() == names(TOP, LEAVES[3])
    world.walk()
    assert world.listed() == names(TOP, LEAVES[3])


def test_pinned_is_what_pins_reach(datastore: Datastore) -> None:
    world = World(datastore, Strategy.PINNED)
    world.pin(TOP)
    world.pin(LEAVES[3], mode=PinMode.DIRECT)
    assert world.look() == names(TOP, LEAVES[3])
    assert world.listed() == names(TOP, TREE, *LEAVES)
    world.walk()
    assert world.listed() == names(TOP, TREE, *LEAVES)


def test_a_direct_pin_reaches_nothing(datastore: Datastore) -> None:
    world = World(datastore, Strategy.PINNED)
    world.pin(TREE, mode=PinMode.DIRECT)
    world.look()
    world.walk()
    assert world.listed() == names(TREE)


def test_all_is_every_block_pinned_or_not(datastore: Datastore) -> None:
    world = World(datastore, Strategy.ALL)
    assert world.look() == set()
    assert world.listed() == names(TOP, TREE, *LEAVES)
    extra = leaf("later")
    world.blocks.put_many([extra])
    assert not world.reprovider.needs_walk(NOW + DAY - 1, DAY, due=False)
    assert not world.reprovider.needs_walk(NOW + 10 * DAY, 0, due=False)
    assert world.reprovider.needs_walk(NOW + DAY, DAY, due=False)
    world.walk(NOW + DAY)
    assert world.listed() == names(extra, TOP, TREE, *LEAVES)


@pytest.mark.parametrize("strategy", Strategy)
def test_only_what_changed_since_the_last_look_is_new(datastore: Datastore, strategy: Strategy) -> None:
    world = World(datastore, strategy)
    world.pin(TREE)
    assert world.look() == names(TREE)
    assert not world.reprovider.has_new_pins()
    world.pin(TOP)
    # A block that is there already is listed with `all`, whoever pins it when.
    assert world.look() == (set() if strategy is Strategy.ALL else names(TOP))
    world.restart()
    assert world.look() == set(), "a restart makes nothing new"


@pytest.mark.parametrize("strategy", Strategy)
def test_what_is_unpinned_leaves_the_table_with_the_next_walk_at_the_latest(
    datastore: Datastore, strategy: Strategy
) -> None:
    world = World(datastore, strategy)
    world.pin(TREE, LEAVES[3])
    world.look()
    world.walk()
    world.pins.remove([TREE.cid])
    if strategy is Strategy.ALL:
        world.blocks.delete([TREE.cid, LEAVES[0].cid, LEAVES[1].cid, LEAVES[2].cid, TOP.cid])
    assert world.look() == set()
    if strategy is Strategy.ROOTS:
        assert world.listed() == names(LEAVES[3])
    else:
        assert world.reprovider.needs_walk(NOW, DAY, due=True)
        world.walk()
    world.restart()
    assert not world.reprovider.needs_walk(NOW, DAY, due=True), "not over a restart, either"
    assert not world.reprovider.has_new_pins()
    assert world.listed() == names(LEAVES[3])


@pytest.mark.parametrize("strategy", Strategy)
def test_nothing_is_offered_that_is_not_here_or_needs_nobody(datastore: Datastore, strategy: Strategy) -> None:
    world = World(datastore, strategy)
    inline = Block.of(b"tiny", hash_code=multihash.IDENTITY)
    lost = leaf("lost")
    holey = parent(lost, LEAVES[0], inline)
    world.blocks.put_many([holey])
    world.pins.add([Pin(inline.cid, PinMode.RECURSIVE), Pin(lost.cid, PinMode.RECURSIVE, complete=False)])
    world.pins.add([Pin(holey.cid, PinMode.RECURSIVE, complete=False)])
    assert world.look() == names(holey)
    world.walk()
    assert not world.listed() & names(inline, lost)
    assert world.listed() >= names(holey)


def test_a_damaged_dag_hides_no_other(datastore: Datastore) -> None:
    world = World(datastore, Strategy.PINNED)
    damaged = Block.of(b"\xff\xff no dag-pb", codecs.DAG_PB)
    world.blocks.put_many([damaged])
    world.pin(damaged, TOP)
    world.look()
    expected = names(damaged, TOP, TREE, *LEAVES[:3])
    assert world.listed() == expected
    world.walk()
    assert world.listed() == expected


def test_a_look_that_was_interrupted_is_made_up_for(datastore: Datastore) -> None:
    world = World(datastore, Strategy.PINNED)
    world.look()
    world.pin(TOP)
    look = world.reprovider.look(NOW)
    assert next(look) == list(names(TOP)), "the root comes before what is below it is read"
    del look  # the daemon is killed
    assert world.listed() == names(TOP)
    world.reprovider.table.mark(names(TOP), NOW)
    world.restart()
    assert world.look() == names(TOP)
    assert world.listed() == names(TOP, TREE, *LEAVES[:3])
    world.restart()
    assert world.look() == set()


def test_a_walk_that_was_interrupted_deletes_nothing(datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reprovider, "_SLICE", 1)
    world = World(datastore, Strategy.PINNED)
    world.pin(TOP, LEAVES[3])
    world.look()
    walk = world.reprovider.walk(NOW)
    next(walk)
    del walk
    world.restart()
    assert world.listed() == names(TOP, TREE, *LEAVES)
    world.walk()
    assert world.listed() == names(TOP, TREE, *LEAVES)


def test_another_strategy_makes_the_table_anew(datastore: Datastore) -> None:
    world = World(datastore, Strategy.PINNED)
    world.pin(TOP)
    world.look()
    world.strategy = Strategy.ROOTS
    world.restart()
    assert world.look() == set(), "the root was announced already"
    assert world.listed() == names(TOP)
    world.strategy = Strategy.PINNED
    world.restart()
    assert world.look() == set()
    assert world.listed() == names(TOP, TREE, *LEAVES[:3])


def test_every_write_of_any_process_changes_the_transaction_number(datastore: Datastore) -> None:
    world = World(datastore, Strategy.ROOTS)
    before = world.reprovider.last_transaction()
    assert world.reprovider.last_transaction() == before
    world.pin(TOP)
    assert world.reprovider.last_transaction() != before
