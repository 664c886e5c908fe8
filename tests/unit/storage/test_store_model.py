"""Store, pins and garbage collection against a model: sets of blocks, and what pins and sessions hold."""

import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb
from ipvcs.objects.block import Block
from ipvcs.storage import gc, session, verify
from ipvcs.storage.home import Home, open_home
from ipvcs.storage.pins import NotPinnedError, Pin, PinConflictError, PinMode
from ipvcs.storage.session import WriteSession
from tests.unit.storage.segment_check import check_segments

LEAVES = [Block.of(bytes([number]) * (number * 37)) for number in range(8)]


def _node(*children: Block) -> Block:
    links = [dag_pb.PBLink(child.cid, str(number).encode()) for number, child in enumerate(children)]
    return Block.of(dag_pb.encode(dag_pb.PBNode(tuple(links))), codecs.DAG_PB)


_INNER = [_node(*LEAVES[start : start + 3]) for start in range(0, 8, 2)]
_ROOTS = [_node(*_INNER[:2]), _node(_INNER[2], LEAVES[7]), _node(*_INNER, LEAVES[0])]
BLOCKS = [*LEAVES, *_INNER, *_ROOTS]
BY_KEY = {block.cid.multihash: block for block in BLOCKS}
blocks = st.sampled_from(BLOCKS)


def closure(cid: Cid) -> set[bytes]:
    """Return the multihashes that a DAG consists of."""
    reached = {cid.multihash}
    if cid.codec == codecs.DAG_PB:
        for link in dag_pb.decode(BY_KEY[cid.multihash].data).links:
            reached |= closure(link.cid)
    return reached


class StoreMachine(RuleBasedStateMachine):
    """`stored` is what must be there; `pins` and `held` (a set for each open session) what a collection must keep."""

    @initialize()
    def make(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ipvcs-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.home: Home = open_home(self.directory / "home")
        self.stored: set[bytes] = set()
        self.pins: dict[Cid, PinMode] = {}
        self.sessions: list[tuple[AbstractContextManager[WriteSession], WriteSession, set[bytes], set[bytes]]] = []

    def teardown(self) -> None:
        if hasattr(self, "home"):
            for context, *_ in self.sessions:
                context.__exit__(None, None, None)
            self.home.close()
            shutil.rmtree(self.directory)

    @rule(some=st.lists(blocks, max_size=6))
    def put_many(self, some: list[Block]) -> None:
        self.home.blocks.put_many(some)
        self.stored |= {block.cid.multihash for block in some}

    @precondition(lambda self: len(self.sessions) < 3)
    @rule()
    def open_session(self) -> None:
        context = self.home.blocks.writing()
        self.sessions.append((context, context.__enter__(), set(), set()))

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), block=blocks)
    def session_put(self, data: st.DataObject, block: Block) -> None:
        _, writing, unflushed, _ = data.draw(st.sampled_from(self.sessions))
        writing.put(block)
        unflushed.add(block.cid.multihash)
        assert writing.get(block.cid) == block.data

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), some=st.lists(blocks, max_size=5))
    def session_rely_on(self, data: st.DataObject, some: list[Block]) -> None:
        _, writing, unflushed, held = data.draw(st.sampled_from(self.sessions))
        missing = {cid.multihash for cid in writing.rely_on([block.cid for block in some])}
        asked = {block.cid.multihash for block in some}
        assert missing == asked - self.stored - unflushed
        held |= (asked & self.stored) - unflushed  # what is unflushed besides is stamped by the flush

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def session_flush(self, data: st.DataObject) -> None:
        _, writing, unflushed, held = data.draw(st.sampled_from(self.sessions))
        writing.flush()
        self.stored |= unflushed
        held |= unflushed
        unflushed.clear()

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), fail=st.booleans())
    def session_end(self, data: st.DataObject, fail: bool) -> None:
        chosen = data.draw(st.integers(0, len(self.sessions) - 1))
        context, _, unflushed, _ = self.sessions.pop(chosen)
        if fail:
            assert not context.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        else:
            context.__exit__(None, None, None)
            self.stored |= unflushed

    @rule(root=blocks, mode=st.sampled_from(PinMode))
    def pin(self, root: Block, mode: PinMode) -> None:
        """As `pin add` does it: only what is there can be pinned."""
        needed = closure(root.cid) if mode is PinMode.RECURSIVE else {root.cid.multihash}
        with self.home.blocks.writing() as writing:
            missing = writing.rely_on([BY_KEY[key].cid for key in sorted(needed)])
            assert {cid.multihash for cid in missing} == needed - self.stored
            if missing:
                return
            if mode is PinMode.DIRECT and self.pins.get(root.cid) is PinMode.RECURSIVE:
                with pytest.raises(PinConflictError):
                    self.home.pins.add([Pin(root.cid, mode)])
                return
            self.home.pins.add([Pin(root.cid, mode)])
            self.pins[root.cid] = mode

    @rule(root=blocks)
    def unpin(self, root: Block) -> None:
        if self.pins.pop(root.cid, None) is None:
            with pytest.raises(NotPinnedError):
                self.home.pins.remove([root.cid])
        else:
            assert [pin.cid for pin in self.home.pins.remove([root.cid])] == [root.cid]

    @rule(some=st.lists(blocks, max_size=4))
    def delete(self, some: list[Block]) -> None:
        """As `block rm` does it: not what is pinned or what somebody relies on."""
        protected = self._pinned().union(*(held | unflushed for _, _, unflushed, held in self.sessions))
        keys = {block.cid.multihash for block in some} - protected
        assert self.home.blocks.delete([BY_KEY[key].cid for key in sorted(keys)]) == len(keys & self.stored)
        self.stored -= keys

    @rule()
    def collect(self) -> None:
        pinned = self._pinned()
        held = set().union(*(held for _, _, _, held in self.sessions))
        removed: list[Cid] = []
        report = gc.collect(self.home, on_removed=removed.append)
        gone = {cid.multihash for cid in removed}

        assert report.damaged == 0
        assert report.removed == len(removed) == len(gone)
        assert gone <= self.stored - pinned - held
        if not self.sessions:
            assert gone == self.stored - pinned, "with no session open, all garbage goes at once"
        self.stored -= gone

    @precondition(lambda self: not self.sessions)
    @rule()
    def reopen(self) -> None:
        self.home.close()
        self.home = open_home(self.directory / "home")

    @invariant()
    def content_is_as_the_model_says(self) -> None:
        if not hasattr(self, "home"):
            return
        assert {cid.multihash for cid in self.home.blocks.iter_cids()} == self.stored
        for key, block in BY_KEY.items():
            assert self.home.blocks.try_get(block.cid) == (block.data if key in self.stored else None)
        assert {pin.cid: pin.mode for pin in self.home.pins.iter_pins()} == self.pins
        assert list(verify.iter_damaged(self.home.blocks)) == []
        check_segments(self.home)

    def _pinned(self) -> set[bytes]:
        kept: set[bytes] = set()
        for cid, mode in self.pins.items():
            kept |= closure(cid) if mode is PinMode.RECURSIVE else {cid.multihash}
        return kept


class SmallSegmentsMachine(StoreMachine):
    """The same with segments so small that new ones begin and old ones are compacted all the time."""

    @initialize()
    def make(self) -> None:
        self.patch = pytest.MonkeyPatch()
        for module in (session, gc):
            self.patch.setattr(module, "SEGMENT_SIZE", 600)
        self.patch.setattr(session, "WRITE_SIZE", 200)
        self.patch.setattr(session, "FLUSH_COUNT", 10_000)
        super().make()

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "patch"):
            self.patch.undo()


_counts = settings(
    max_examples=max(25, settings.default.max_examples // 4) if settings.default else 25,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)
TestStore = StoreMachine.TestCase
TestStore.settings = _counts
TestSmallSegments = SmallSegmentsMachine.TestCase
TestSmallSegments.settings = _counts
