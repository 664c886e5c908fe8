"""Git mapping v1 a second time, from docs/git-mapping.md alone: an oracle that shares no code with the first.

It knows no HAMT, no more than 1024 pieces in a file and no profile but `unixfs-v1-2025`.
"""

import hashlib
import re
from collections.abc import Sequence

MIB = 1 << 20
Node = tuple[bytes, int]
"""(binary CID, size on links to it)."""
Link = tuple[bytes, Node]
"""(name, node)."""


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


class NaiveMapping:
    """Maps objects whose children are given as nodes. `blocks` is all that was made, by CID."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, bytes] = {}
        self.mapped: dict[tuple[bytes, str], Node] = {}

    def raw(self, data: bytes) -> Node:
        cid = b"\x01\x55\x12\x20" + hashlib.sha256(data).digest()
        self.blocks[cid] = data
        return cid, len(data)

    def node(self, links: Sequence[Link], data: bytes) -> tuple[bytes, bytes]:
        """Return (CID, block)."""
        ordered = sorted(links, key=lambda link: link[0])
        block = b"".join(
            field(2, field(1, cid) + field(2, name) + field(3, min(size, 2**53 - 1))) for name, (cid, size) in ordered
        )
        block += field(1, data)
        cid = b"\x01\x70\x12\x20" + hashlib.sha256(block).digest()
        self.blocks[cid] = block
        return cid, block

    def unixfs(self, links: Sequence[Link], data: bytes) -> Node:
        cid, block = self.node(links, data)
        return cid, min(2**53 - 1, len(block) + sum(size for _name, (_cid, size) in links))

    def file(self, data: bytes, mode: bytes = b"") -> Node:
        """Return a file of `data`: raw, or a list; with a `mode` field, always a node over the leaves."""
        pieces = [data[i : i + MIB] for i in range(0, len(data), MIB)]
        if not mode and len(pieces) < 2:
            return self.raw(data)
        assert len(pieces) <= 1024
        message = field(1, 2) + field(3, len(data)) + b"".join(field(4, len(piece)) for piece in pieces) + mode
        return self.unixfs([(b"", self.raw(piece)) for piece in pieces], message)

    def blob(self, kind: str, data: bytes) -> Node:
        if kind == "executable":
            return self.file(data, field(7, 0o755))
        if kind == "symlink" and len(data) <= 4096:
            return self.unixfs([], field(1, 4) + field(2, data))
        return self.file(data)

    def tree(self, payload: bytes, children: Sequence[Link]) -> Node:
        """`children` are the entries that are no gitlinks."""
        if len(payload) <= 64 * 1024:
            return self.unixfs(children, field(1, 1) + field(2, payload))
        return self.unixfs([*children, (b".ipvcs-tree", self.file(payload))], field(1, 1))

    def opaque(self, payload: bytes, children: Sequence[tuple[int, Node]]) -> Node:
        """`children` are by entry index."""
        links = self.unixfs([(str(index).encode(), child) for index, child in children], field(1, 1))
        return self.unixfs([(b"links", links), (b"payload", self.file(payload))], field(1, 1))

    def commit(self, payload: bytes, targets: Sequence[Link], people: Sequence[tuple[bytes, bytes]]) -> Node:
        return self._object(1, payload, targets, people, (b"object", b"author", b"committer"))

    def tag(self, payload: bytes, targets: Sequence[Link], people: Sequence[tuple[bytes, bytes]]) -> Node:
        return self._object(2, payload, targets, people, (b"object",))

    def _object(
        self,
        kind: int,
        payload: bytes,
        targets: Sequence[Link],
        people: Sequence[tuple[bytes, bytes]],
        counted: tuple[bytes, ...],
    ) -> Node:
        links = [*targets, *((name, self._person(person)) for name, person in people)]
        data = field(17, kind)
        if len(payload) <= 256 * 1024:
            data += field(18, payload)
        else:
            links.append((b"payload", self.file(payload)))
        cid, block = self.node(links, data)
        return cid, min(2**53 - 1, len(block) + sum(size for name, (_cid, size) in links if name in counted))

    def _person(self, person: bytes) -> Node:
        if len(person) <= 64:
            return b"\x01\x55\x00" + bytes([len(person)]) + person, len(person)
        return self.file(person)


def map_object(mapping: NaiveMapping, payloads: dict[bytes, bytes], oid: bytes, kind: str) -> Node:
    """Map the object `oid` of `payloads` (by raw id) and all that it leads to as `kind`. Recursive: for tests only."""
    if (oid, kind) not in mapping.mapped:
        mapping.mapped[oid, kind] = _map_object(mapping, payloads, oid, kind)
    return mapping.mapped[oid, kind]


def _map_object(mapping: NaiveMapping, payloads: dict[bytes, bytes], oid: bytes, kind: str) -> Node:
    payload = payloads[oid]
    header, body = payload.split(b"\0", 1)
    git_type = header.split()[0].decode()
    width = len(oid)
    if git_type != {"directory": "tree", "commit": "commit", "tag": "tag"}.get(kind, "blob"):
        return mapping.file(payload)  # verbatim
    if git_type == "blob":
        return mapping.blob(kind, body)
    if git_type == "tree":
        return _map_tree(mapping, payloads, payload, body, width)
    digits = b"[0-9a-f]{%d}" % (2 * width)
    if git_type == "commit":
        found = re.match(rb"tree (%b)\n((?:parent %b\n)*)(?!parent )(?s:.)" % (digits, digits), body)
        if found is None:
            return mapping.commit(payload, [], [])
        parents = re.findall(digits, found[2])
        names = [b"parent", *(b"parent%d" % n for n in range(2, len(parents) + 1))]
        targets = [
            (b"object", found[1], "directory"),
            *((n, p, "commit") for n, p in zip(names, parents, strict=False)),
        ]
        keys: tuple[bytes, ...] = (b"author", b"committer")
        lines = body[found.end(2) :].split(b"\n\n")[0].removeprefix(b"\n").split(b"\n")
    else:
        found = re.match(rb"object (%b)\ntype (blob|tree|commit|tag)\ntag .*\n" % digits, body)
        if found is None or len(body) < 2 * width + 24:
            return mapping.tag(payload, [], [])
        kind_of = {b"blob": "regular", b"tree": "directory", b"commit": "commit", b"tag": "tag"}
        targets = [(b"object", found[1], kind_of[found[2]])]
        keys = (b"tagger",)
        lines = body[found.end() :].split(b"\n")[:1]
    links = [(name, map_object(mapping, payloads, bytes.fromhex(h.decode()), kind)) for name, h, kind in targets]
    people = []
    for key in keys:
        values = [line[len(key) + 1 :] for line in lines if line.startswith(key + b" ")]
        if values and (person := re.match(rb"(?s).*<.*>", values[0])):
            people.append((key, person[0]))
    return (mapping.commit if git_type == "commit" else mapping.tag)(payload, links, people)


def _map_tree(mapping: NaiveMapping, payloads: dict[bytes, bytes], payload: bytes, body: bytes, width: int) -> Node:
    entry = re.compile(rb"([0-7]+) ([^\0]*)\0((?s:.){%d})" % width)
    position = 0
    is_opaque = False
    names: list[bytes] = []
    children: list[tuple[int, Node]] = []
    while found := entry.match(body, position):
        position = found.end()
        mode = int(found[1], 8)
        kind = {0o100: "executable" if mode & 0o100 else "regular", 0o120: "symlink", 0o40: "directory"}.get(
            mode >> 9 & 0o170
        )
        if kind is not None:
            git_type = payloads[found[3]].split()[0]
            is_opaque |= (git_type == b"tree") != (kind == "directory") or git_type in (b"commit", b"tag")
            children.append((len(names), map_object(mapping, payloads, found[3], kind)))
        names.append(found[2])
    is_opaque |= position < len(body) or len(set(names)) < len(names)
    for name in names:
        try:
            text = name.decode()
        except UnicodeDecodeError:
            text = ""
        is_opaque |= text in ("", ".", "..", ".ipvcs-tree") or "/" in text or name.lower() == b".git"
    if is_opaque:
        return mapping.opaque(payload, children)
    return mapping.tree(payload, [(names[index], child) for index, child in children])
