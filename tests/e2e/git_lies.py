"""Published repositories that are not what they say, made from an honest one: a file or a node of it, replaced."""

import json
from collections.abc import Callable
from typing import Any

from ipvcs.git_bridge.place import Place, put_at
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, directory
from ipvcs.objects.block import Block
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.layout import put_file
from ipvcs.objects.inline import read_block
from ipvcs.storage.home import Home


class Forge:
    """Makes lies of the repository at `root`, all of which is in `home`. Nothing is pinned, so let nobody collect."""

    def __init__(self, home: Home, root: Cid) -> None:
        self._home = home
        self.root = root

    def read(self, *path: str) -> bytes:
        """Return what is in a file of the honest repository."""
        return FileReader(self._home.blocks, self._walk(path)[-1]).readall()

    def with_file(self, path: str, data: bytes, root: Cid | None = None) -> Cid:
        """Return a repository with other bytes in a file; of `root`, else of the honest one."""
        names = tuple(path.encode().split(b"/"))
        levels = (*self._walk(path.split("/")[:-1], root), None)
        with self._home.blocks.writing() as writer:
            return put_at(Place(names, levels), put_file(data, writer), self._home.blocks, writer).cid

    def with_manifest(self, change: Callable[[dict[str, Any]], object]) -> Cid:
        """Return a repository whose manifest was changed."""
        fields = json.loads(self.read("ipvcs.json"))
        change(fields)
        return self.with_file("ipvcs.json", json.dumps(fields).encode())

    def with_link(self, cid: Cid, name: bytes, target: Cid) -> Cid:
        """Return a node like `cid` whose link `name` leads to `target` and is otherwise as it was."""
        node = dag_pb.decode(read_block(self._home.blocks, cid))
        links = tuple(PBLink(target, each.name, each.size) if each.name == name else each for each in node.links)
        assert links != tuple(node.links), name
        block = Block.of(dag_pb.encode_parts(links, node.data), cid.codec)
        self._home.blocks.put_many([block])
        return block.cid

    def link(self, cid: Cid, name: bytes) -> Cid:
        """Return where the link `name` of a node leads."""
        node = dag_pb.decode(read_block(self._home.blocks, cid))
        return next(link.cid for link in node.links if link.name == name)

    def _walk(self, path: "list[str] | tuple[str, ...]", root: Cid | None = None) -> list[Cid]:
        cids = [root or self.root]
        for name in path:
            node = dag_pb.decode(read_block(self._home.blocks, cids[-1]))
            link = directory.lookup(self._home.blocks, node, name.encode())
            assert link is not None, path
            cids.append(link.cid)
        return cids
