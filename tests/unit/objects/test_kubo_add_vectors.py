"""What `ipfs add` gives, at library level: the same bytes and options have the same root CID here."""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from ipvcs.errors import UsageError
from ipvcs.multiformats import multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, directory, unixfs
from ipvcs.objects.block import BlockWriter
from ipvcs.objects.chunkers.registry import parse_chunker
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.directory import build_directory
from ipvcs.objects.file_layout import build_file
from ipvcs.objects.node_writer import Built
from ipvcs.objects.profile import ImportOptions, resolve_options
from ipvcs.objects.symlink_writer import build_symlink
from ipvcs.objects.unixfs import DataType, Mtime
from tests import streams
from tests.fakes.memory_blocks import DiscardingWriter, MemoryBlocks

VECTORS = Path(__file__).parents[2] / "vectors" / "unixfs"
SLOW_CHACHA8 = 8 * 1024 * 1024  # bytes; the generator makes about 8 MB/s
NAME_ALPHABET = b"abcdefghijklmnopqrstuvwxyz01234567890-_"
OPTION_NAMES = {"hash": "hash_code", "size-estimation": "hamt_estimate", "hamt-threshold": "hamt_threshold"}
METADATA = ("mode", "mtime", "mtime-nsecs")
ROOT_TYPES = {"hamt": DataType.HAMT_SHARD, "directory": DataType.DIRECTORY}


def load_vectors() -> list[Any]:
    """Read both files; cases that take more than a second, or a gigabyte, are long tests."""
    cases = []
    for file in ("kubo_add_vectors.json", "kubo_add_more.json"):
        for index, case in enumerate(json.loads((VECTORS / file).read_text())):
            kind = next(iter(case["input"]))
            slow = case.get("expensive") or (kind.startswith("chacha8") and case["input"]["size"] > SLOW_CHACHA8)
            marks = [pytest.mark.long] if slow else []
            cases.append(pytest.param(case, id=f"{file[9:-5]}-{index}-{kind}", marks=marks))
    return cases


@lru_cache(maxsize=1)
def stream(spec: str) -> bytes:
    """Make the bytes of an input, given as JSON; several vectors in a row share one."""
    return streams.from_input(json.loads(spec))


def options_of(given: Mapping[str, Any]) -> ImportOptions:
    named = {OPTION_NAMES.get(key, key.replace("-", "_")): value for key, value in given.items() if key not in METADATA}
    profile = named.pop("profile", "unixfs-v0-2015")
    if "hash_code" in named:
        named["hash_code"] = multihash.code_of(named["hash_code"])
    if "hamt_threshold" in named:
        named["hamt_threshold"] = int(named["hamt_threshold"].split("B")[0])
    return resolve_options(profile, metadata=any(key in given for key in METADATA), **named)


class Importer:
    """Stores a vector's input, whatever its kind."""

    def __init__(self, given: Mapping[str, Any], writer: BlockWriter) -> None:
        self.options = options_of(given)
        self.writer = writer
        self.mode = int(given["mode"], 8) if "mode" in given else None
        self.mtime = Mtime(given["mtime"], given.get("mtime-nsecs", 0)) if "mtime" in given else None

    def add(self, spec: Mapping[str, Any]) -> Built:
        if "symlink" in spec:
            return build_symlink(spec["symlink"].encode(), self.options, self.writer, mtime=self.mtime)
        if "tree" in spec:
            return self.add_tree(spec["tree"])
        if "dir_of_x" in spec:
            return self.add_directory({name: self.add_bytes(b"x") for name in random_names(spec["dir_of_x"])})
        if "dir_of_fileN" in spec:
            count = spec["dir_of_fileN"]
            return self.add_directory({b"file%d" % i: self.add_bytes(b"%d\n" % i) for i in range(1, count + 1)})
        if "dir_of_longnames" in spec:
            prefix = spec["dir_of_longnames"]["prefix"].encode()
            names = [prefix + b"%d" % i for i in range(spec["dir_of_longnames"]["count"])]
            return self.add_directory({name: self.add_bytes(name) for name in names})
        return self.add_bytes(stream(json.dumps(spec)))

    def add_bytes(self, data: bytes) -> Built:
        chunks = parse_chunker(self.options.chunker).chunks(io.BytesIO(data).read)
        return build_file(chunks, self.options, self.writer, mode=self.mode, mtime=self.mtime)

    def add_tree(self, tree: Mapping[str, Any]) -> Built:
        entries: dict[bytes, Built] = {}
        below: dict[str, dict[str, Any]] = {}
        for path, content in tree.items():
            head, slash, tail = path.partition("/")
            if slash:
                below.setdefault(head, {})[tail] = content
            else:
                entries[head.encode()] = self.add({"text": content} if isinstance(content, str) else content)
        entries |= {name.encode(): self.add_tree(subtree) for name, subtree in below.items()}
        return self.add_directory(entries)

    def add_directory(self, entries: Mapping[bytes, Built]) -> Built:
        return build_directory([built.link(name) for name, built in entries.items()], self.options, self.writer)


def random_names(spec: Mapping[str, Any]) -> list[bytes]:
    lengths = [spec["name_len"]] * (spec["files"] - 1) + [spec["last_name_len"]]
    characters = bytes(NAME_ALPHABET[byte % 39] for byte in streams.chacha20_stream(spec["chacha20"], sum(lengths)))
    names, start = [], 0
    for length in lengths:
        names.append(characters[start : start + length])
        start += length
    return names


def resolve(blocks: MemoryBlocks, root: Cid, path: str) -> PBLink:
    link = PBLink(root)
    for name in path.split("/"):
        found = directory.lookup(blocks, dag_pb.decode(blocks.get(link.cid)), name.encode())
        assert found is not None, f"no '{name}' on the way to '{path}'"
        link = found
    return link


@pytest.mark.parametrize("case", load_vectors())
def test_an_import_has_the_cid_that_kubo_gives_it(case: dict[str, Any]) -> None:
    if case.get("error"):
        with pytest.raises(UsageError):
            Importer(case["options"], DiscardingWriter())
        return
    if case.get("expensive"):
        assert str(Importer(case["options"], DiscardingWriter()).add(case["input"]).cid) == case["cid"]
        return
    blocks = MemoryBlocks()
    built = Importer(case["options"], blocks).add(case["input"])
    assert str(built.cid) == case["cid"]
    assert case.get("size") in (None, built.size)
    root = dag_pb.decode(blocks.get(built.cid)) if built.cid.codec == 0x70 and not built.cid.is_identity else None
    if "root_links" in case:
        assert root is not None
        assert len(root.links) == case["root_links"]
    if "root_type" in case:
        assert root is not None
        assert unixfs.decode(root.data or b"").type is ROOT_TYPES[case["root_type"]]
    for path, cid in case.get("children", {}).items():
        assert str(resolve(blocks, built.cid, path).cid) == cid
    for path, size in case.get("sizes", {}).items():
        assert resolve(blocks, built.cid, path).size == size


def test_the_estimate_decides_between_plain_and_sharded_at_the_same_size() -> None:
    spec = {"files": 4766, "name_len": 11, "last_name_len": 22, "chacha20": "hamt-unixfs-v1-2025"}
    importer = Importer({"profile": "unixfs-v1-2025"}, DiscardingWriter())
    sharded = importer.add({"dir_of_x": spec})
    importer.options = replace(importer.options, hamt_estimate="links")
    assert importer.add({"dir_of_x": spec}) != sharded
