"""`repo verify` finds every changed byte."""

import os

import pytest

from ipvcs.objects.block import Block
from ipvcs.storage import verify
from ipvcs.storage.home import Home


@pytest.fixture
def blocks(home: Home) -> list[Block]:
    blocks = [Block.of(os.urandom(50)) for _ in range(30)]
    home.blocks.put_many(blocks)
    return blocks


def test_a_sound_store_has_no_damage_and_all_of_it_was_looked_at(home: Home, blocks: list[Block]) -> None:
    progress: list[int] = []
    assert list(verify.iter_damaged(home.blocks, progress.append)) == []
    assert progress == [len(blocks)]


@pytest.mark.parametrize("where", [0, 25, 49])
def test_one_flipped_bit_is_found(home: Home, blocks: list[Block], where: int) -> None:
    found, _ = home.blocks.index.locate(blocks[7].cid.multihash)
    assert found is not None
    with home.blocks.segments.path_of(found.segment).open("r+b") as file:
        file.seek(found.offset + where)
        byte = file.read(1)[0]
        file.seek(found.offset + where)
        file.write(bytes([byte ^ 1]))

    (problem,) = verify.iter_damaged(home.blocks)

    assert problem.cid == blocks[7].cid
    assert f"{found.segment:08x}.car at {found.offset}" in problem.reason


def test_every_block_of_a_lost_segment_is_named(home: Home, blocks: list[Block]) -> None:
    (number,) = home.blocks.index.segment_rows()
    home.blocks.segments.path_of(number).unlink()

    assert {problem.cid for problem in verify.iter_damaged(home.blocks)} == {block.cid for block in blocks}


def test_every_block_behind_a_cut_is_named(home: Home, blocks: list[Block]) -> None:
    found, _ = home.blocks.index.locate(blocks[20].cid.multihash)
    assert found is not None
    os.truncate(home.blocks.segments.path_of(found.segment), found.offset)

    lost = {problem.cid for problem in verify.iter_damaged(home.blocks)}

    assert lost == {block.cid for block in blocks[20:]}
