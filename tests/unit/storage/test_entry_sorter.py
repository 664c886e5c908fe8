"""Sorting on the disk: the order and the entries are those of memory."""

from pathlib import Path

import pytest

from ipvcs.objects.block import Block
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.hamt_shard import hash_name
from ipvcs.objects.profile import resolve_options
from ipvcs.storage import disk_import, entry_sorter
from ipvcs.storage.disk_import import DiskImporter, ImportRules
from ipvcs.storage.entry_sorter import EntrySorter
from tests.fakes.memory_blocks import MemoryBlocks


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 100])
def test_entries_come_back_by_hash_however_many_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(entry_sorter, "RUN_LENGTH", 7)
    links = [PBLink(Block.of(b"%d" % number).cid, b"n%d" % number, number) for number in range(count)]
    sorter = EntrySorter(tmp_path)
    for link in links:
        sorter.add(link)
    assert list(sorter.by_hash()) == sorted((hash_name(link.name or b""), link) for link in links)
    assert list(tmp_path.iterdir()) == []
    sorter.close()


@pytest.mark.parametrize("profile", ["unixfs-v0-2015", "unixfs-v1-2025"])
@pytest.mark.parametrize("threshold", [1, 262144])
def test_a_large_directory_has_the_same_cid_by_disk_and_by_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, threshold: int
) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    for number in range(300):
        (root / f"{number}").write_bytes(b"%d" % number)
        (root / "sub" / f"{number}").write_bytes(b"%d" % number)
    options = resolve_options(profile, hamt_threshold=threshold)
    stores = MemoryBlocks(), MemoryBlocks()
    rules = ImportRules(recursive=True, preserve_mtime=True)
    in_memory = DiskImporter(options, rules, stores[0]).import_path(bytes(root), b"root")
    monkeypatch.setattr(entry_sorter, "RUN_LENGTH", 40)
    monkeypatch.setattr(disk_import, "RUN_LENGTH", 40)
    on_disk = DiskImporter(options, rules, stores[1], scratch=tmp_path).import_path(bytes(root), b"root")
    assert on_disk == in_memory
    assert stores[0].blocks == stores[1].blocks
