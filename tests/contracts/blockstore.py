"""What every blockstore promises: the promises of `ipvcs.storage.interface`, each as a test."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from ipvcs.errors import IntegrityError
from ipvcs.multiformats import codecs, multihash
from ipvcs.objects.block import Block, BlockNotFoundError
from ipvcs.storage.interface import Blockstore

MIB = 1024 * 1024
HELLO = Block.of(b"hello")
EMPTY = Block.of(b"")
ABSENT = Block.of(b"never stored").cid
INLINE = Block.of(b"tiny", hash_code=multihash.IDENTITY)


def some_blocks(count: int, seed: str = "") -> list[Block]:
    """Return `count` different small blocks."""
    return [Block.of(f"{seed}{number}".encode()) for number in range(count)]


def multihashes(store: Blockstore) -> set[bytes]:
    """Return what `store` holds."""
    return {cid.multihash for cid in store.iter_cids()}


class BlockstoreContract:
    """What every Blockstore promises. Subclass it and supply the `store` fixture: a fresh, empty store."""

    @pytest.fixture
    def store(self) -> Iterator[Blockstore]:
        raise NotImplementedError

    def test_what_is_put_comes_back(self, store: Blockstore) -> None:
        blocks = some_blocks(100)

        store.put_many(blocks)

        for block in blocks:
            assert store.get(block.cid) == store.try_get(block.cid) == block.data
            assert store.has(block.cid)
            assert store.size(block.cid) == len(block.data)

    def test_what_is_absent_is_said_to_be(self, store: Blockstore) -> None:
        store.put_many([HELLO])

        assert not store.has(ABSENT)
        assert store.try_get(ABSENT) is None
        for ask in (store.get, store.size):
            with pytest.raises(BlockNotFoundError, match="not found") as caught:
                ask(ABSENT)
            assert caught.value.cid == ABSENT

    def test_sizes_are_those_of_the_blocks_that_are_there(self, store: Blockstore) -> None:
        blocks = some_blocks(2500)
        store.put_many([*blocks, EMPTY])

        found = store.sizes(
            each.multihash for each in (ABSENT, EMPTY.cid, INLINE.cid, *(block.cid for block in blocks))
        )

        assert found == {block.cid.multihash: len(block.data) for block in (*blocks, EMPTY, INLINE)}

    def test_identity_cids_are_always_there_and_never_stored(self, store: Blockstore) -> None:
        store.put_many([INLINE])
        with store.writing() as session:
            session.put(INLINE)
            assert session.get(INLINE.cid) == b"tiny"
            assert session.rely_on([INLINE.cid]) == []

        assert store.has(INLINE.cid)
        assert store.get(INLINE.cid) == b"tiny"
        assert store.size(INLINE.cid) == 4
        assert store.delete([INLINE.cid]) == 0
        assert store.stat().blocks == 0
        assert list(store.iter_cids()) == []

    @pytest.mark.parametrize("first", range(4))
    @pytest.mark.parametrize("second", range(4))
    def test_all_cids_of_one_multihash_name_one_block(self, store: Blockstore, first: int, second: int) -> None:
        data = b"\x0a\x01x"
        v1 = Block.of(data, codecs.DAG_PB)
        names = [v1.cid, v1.cid.to_v0(), v1.cid.with_codec(codecs.RAW), v1.cid.with_codec(codecs.DAG_CBOR)]

        store.put_many([Block(names[first], data)])
        store.put_many([Block(names[second], data)])
        with store.writing() as session:
            session.put(Block(names[second], data))

        assert store.stat().blocks == 1
        assert all(store.get(name) == data and store.has(name) for name in names)
        assert list(store.iter_cids()) == [names[first]]
        assert store.delete(names) == 1

    def test_the_first_cid_of_a_session_is_the_one_that_is_listed(self, store: Blockstore) -> None:
        node = Block.of(b"", codecs.DAG_PB)
        with store.writing() as session:
            session.put(Block(node.cid.to_v0(), b""))
            session.put(node)

        assert list(store.iter_cids()) == [node.cid.to_v0()]

    def test_bytes_that_do_not_match_are_refused(self, store: Blockstore) -> None:
        with pytest.raises(IntegrityError):
            store.put_many([Block(HELLO.cid, b"tampered")])
        assert not store.has(HELLO.cid)

    @pytest.mark.parametrize("code", [multihash.SHA2_512, multihash.SHA1, multihash.BLAKE3])
    def test_any_hash_function_will_do(self, store: Blockstore, code: int) -> None:
        block = Block.of(b"hashed", codecs.DAG_CBOR, code)

        store.put_many([block])

        assert store.get(block.cid) == b"hashed"
        assert list(store.iter_cids()) == [block.cid]

    def test_the_empty_block_is_a_block(self, store: Blockstore) -> None:
        with store.writing() as session:
            session.put(EMPTY)
            assert session.get(EMPTY.cid) == b""

        assert store.has(EMPTY.cid)
        assert store.try_get(EMPTY.cid) == b""
        assert store.size(EMPTY.cid) == 0

    @pytest.mark.parametrize("size", [2 * MIB + 1, pytest.param(64 * MIB, marks=pytest.mark.long)])
    def test_a_block_above_what_bitswap_carries_is_kept(self, store: Blockstore, size: int) -> None:
        block = Block.of(os.urandom(1024) * (size // 1024) + bytes(size % 1024))

        with store.writing() as session:
            session.put(block)
            assert session.get(block.cid) == block.data

        assert store.get(block.cid) == block.data
        assert store.size(block.cid) == size

    def test_putting_again_changes_nothing(self, store: Blockstore) -> None:
        store.put_many([HELLO, HELLO])
        before = store.stat()

        store.put_many([HELLO])

        after = store.stat()
        assert (after.blocks, after.size) == (before.blocks, before.size) == (1, before.size)

    def test_deleted_blocks_are_gone_and_counted(self, store: Blockstore) -> None:
        blocks = some_blocks(10)
        store.put_many(blocks)

        assert store.delete([block.cid for block in blocks[:4]] + [ABSENT]) == 4

        assert multihashes(store) == {block.cid.multihash for block in blocks[4:]}
        assert not store.has(blocks[0].cid)
        assert store.try_get(blocks[0].cid) is None
        store.put_many(blocks[:1])
        assert store.get(blocks[0].cid) == blocks[0].data

    def test_stat_counts_blocks_and_bytes(self, store: Blockstore) -> None:
        blocks = [Block.of(os.urandom(1000)) for _ in range(50)]
        assert (store.stat().blocks, store.stat().size) == (0, 0)

        store.put_many(blocks)

        stat = store.stat()
        assert stat.blocks == 50
        assert 50_000 <= stat.size <= 50_000 + 50 * 48  # the embedded store counts what frames a block, too
        assert stat.disk >= stat.size
        store.delete(block.cid for block in blocks)
        assert (store.stat().blocks, store.stat().size) == (0, 0)

    def test_every_block_is_listed_once(self, store: Blockstore) -> None:
        blocks = some_blocks(2500)
        store.put_many(blocks)

        listed = list(store.iter_cids())

        assert len(listed) == 2500
        assert set(listed) == {block.cid for block in blocks}

    def test_a_listing_survives_that_blocks_go_meanwhile(self, store: Blockstore) -> None:
        blocks = some_blocks(3000)
        store.put_many(blocks)

        listing = store.iter_cids()
        first = next(listing)
        store.delete(block.cid for block in blocks)

        assert set(listing) | {first} <= {block.cid for block in blocks}

    def test_a_session_sees_its_own_blocks_and_others_see_them_after_a_flush(self, store: Blockstore) -> None:
        with store.writing() as session:
            session.put(HELLO)
            assert session.get(HELLO.cid) == b"hello"
            assert not store.has(HELLO.cid)
            assert store.try_get(HELLO.cid) is None

            session.flush()
            assert store.get(HELLO.cid) == b"hello"
            session.put(EMPTY)
        assert store.has(EMPTY.cid)

    def test_a_session_that_ends_by_an_error_drops_what_was_not_flushed(self, store: Blockstore) -> None:
        with suppress(ZeroDivisionError), store.writing() as session:
            session.put(HELLO)
            session.flush()
            session.put(EMPTY)
            raise ZeroDivisionError

        assert store.has(HELLO.cid)
        assert not store.has(EMPTY.cid)
        assert multihashes(store) == {HELLO.cid.multihash}

    def test_a_session_reads_what_was_stored_before(self, store: Blockstore) -> None:
        store.put_many([HELLO])

        with store.writing() as session:
            assert session.get(HELLO.cid) == b"hello"
            with pytest.raises(BlockNotFoundError):
                session.get(ABSENT)

    def test_relying_on_blocks_names_those_that_are_not_there(self, store: Blockstore) -> None:
        stored, unflushed = some_blocks(1500, "a"), some_blocks(1500, "b")
        store.put_many(stored)

        with store.writing() as session:
            for block in unflushed:
                session.put(block)
            asked = [block.cid for block in stored + unflushed]
            asked.insert(1234, ABSENT)
            assert session.rely_on(iter(asked)) == [ABSENT]

    def test_empty_sessions_and_flushes_are_nothing(self, store: Blockstore) -> None:
        with store.writing() as session:
            session.flush()
            session.flush()
        store.put_many([])
        assert store.delete([]) == 0
        assert store.stat().blocks == 0

    def test_many_blocks_need_no_flush_of_their_own(self, store: Blockstore) -> None:
        """More than a session holds back: it flushes by itself and the caller does not notice."""
        count = 21_000

        with store.writing() as session:
            for block in some_blocks(count):
                session.put(block)
            assert session.get(Block.of(b"0").cid) == b"0"
            assert session.get(Block.of(str(count - 1).encode()).cid) == str(count - 1).encode()

        assert store.stat().blocks == count
        assert store.get(Block.of(b"12345").cid) == b"12345"

    def test_many_threads_read_at_once(self, store: Blockstore) -> None:
        blocks = [Block.of(os.urandom(500)) for _ in range(400)]
        store.put_many(blocks)

        def read_all(start: int) -> bool:
            return all(store.get(block.cid) == block.data for block in blocks[start:] + blocks[:start])

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(read_all, range(0, 400, 50)))


class SharedSessionContract:
    """What a Blockstore promises besides when threads may share a session. Mix it in where they may."""

    def test_threads_share_a_session(self, store: Blockstore) -> None:
        shares = [some_blocks(600, f"{seed}-") for seed in range(6)]
        common = some_blocks(100, "common-")
        start = threading.Barrier(len(shares))

        def put_all(share: list[Block]) -> None:
            start.wait()
            for number, block in enumerate(share):
                session.put(block)
                session.put(common[number % len(common)])
                assert session.get(block.cid) == block.data
                if number % 150 == 0:
                    session.flush()
                    assert store.has(block.cid)

        with store.writing() as session, ThreadPoolExecutor(len(shares)) as threads:
            list(threads.map(put_all, shares))

        expected = {block.cid for block in sum(shares, common)}
        assert set(store.iter_cids()) == expected
        assert all(Block(cid, store.get(cid)) for cid in expected)
