"""Paths from a CID to a node: `/ipfs/<cid>/a/b`, parsed and resolved.

What a component means depends on the node it is looked up in:

- a directory, sharded or not: the entry of that name;
- a commit or tag: a link of that name (`object`, `parent`, `parent2`, `author`, …), else a path in its `object`;
- a list: the child at that index, in plain decimal;
- another dag-pb node: the first link of that name;
- dag-cbor, dag-json and their like: a key or index inside the block. Where it leads to a link, resolution goes on in
  the block linked to; what is left inside the last block is the *remainder*.

So a path that ends at a commit names the commit, not its snapshot, and symlinks are never followed. `.` and `..` are
names like any other and do not climb; percent signs are literal.

Spec: https://specs.ipfs.tech/http-gateways/path-gateway/ (paths), white paper §3.6.6, DESIGN §3.
"""

from dataclasses import dataclass, replace
from typing import Final

from ipvcs.errors import DecodeError, LimitError, NotFoundError, UnavailableError, shorten
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import codec_registry, dag_pb, directory, unixfs
from ipvcs.objects.blob import Blob, file_of
from ipvcs.objects.block import BlockReader
from ipvcs.objects.commit import is_object_data
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.data_model import Value
from ipvcs.objects.inline import read_block
from ipvcs.objects.unixfs import DataType, UnixfsError

MAX_COMPONENTS: Final = 4096
"""Deeper than any file system goes (PATH_MAX is 4096 bytes); each component costs at least one block."""
MAX_NESTED_OBJECTS: Final = 64
"""Nodes passed through for one component: tags of tags, commits whose `object` is a commit, blocks that are a link."""


class PathSyntaxError(DecodeError):
    """Text is not a path to a node."""


class PathError(NotFoundError):
    """A path leads nowhere: `component` is not in the node `cid`, to which `prefix`, the path before it, leads."""

    def __init__(self, problem: str, prefix: "Path", cid: Cid, component: bytes, *, hint: str | None = None) -> None:
        super().__init__(f"{problem} under '{prefix}'", hint=hint)
        self.prefix = prefix
        self.cid = cid
        self.component = component


class NameNotResolvedError(UnavailableError):
    """A path starts at a name, and there is nobody here to ask what it points at."""

    def __init__(self, path: "Path") -> None:
        super().__init__(
            f"cannot resolve '/ipns/{path.root}' here: names are looked up by a node",
            hint="`ipvcs name resolve` does, and prints the path that starts with '/ipfs/'",
        )
        self.path = path


@dataclass(frozen=True, slots=True)
class Path:
    """`/<namespace>/<root>/<components…>`: `root` is a Cid in the namespace `ipfs`, text in `ipns`."""

    namespace: str
    root: Cid | str
    components: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        tail = b"".join(b"/" + component for component in self.components)
        return f"/{self.namespace}/{self.root}{tail.decode('utf-8', 'surrogateescape')}"


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a path leads.

    `cid` is the last block; `remainder` the components that stay inside it (dag-cbor and its like only), known to
    exist, and `value` what they lead to, None without remainder. `link` is the dag-pb link followed last, for its name
    and size.
    """

    cid: Cid
    remainder: tuple[bytes, ...] = ()
    value: Value = None
    link: PBLink | None = None


def parse_path(text: str) -> Path:
    """Return the path that `text` writes: `/ipfs/<cid>/…`, `<cid>/…` or `/ipns/<name>/…`. Empty components are dropped.

    Components are taken as UTF-8 with surrogate escapes for other bytes, as Python gives them in `sys.argv`.

    Raises:
        PathSyntaxError: no root, an unknown namespace, or characters that no bytes stand for.
        CidError: the root is not a CID.
        LimitError: more than `MAX_COMPONENTS` components.
    """
    namespace, rest = "ipfs", text
    if text.startswith("/"):
        namespace, _, rest = text[1:].partition("/")
        if namespace not in ("ipfs", "ipns"):
            raise PathSyntaxError(
                f"invalid path '{shorten(text)}': it starts with neither '/ipfs/' nor '/ipns/'",
                hint="a path looks like '/ipfs/<cid>/a/b' or '<cid>/a/b'",
            )
    root, _, tail = rest.partition("/")
    if not root:
        raise PathSyntaxError(
            f"invalid path '{shorten(text)}': it has no CID", hint="a path looks like '/ipfs/<cid>/a/b'"
        )
    try:
        components = tuple(name for name in tail.encode("utf-8", "surrogateescape").split(b"/") if name)
    except UnicodeEncodeError as exc:
        raise PathSyntaxError(f"invalid path {shorten(text)!r}: it is not text") from exc
    if len(components) > MAX_COMPONENTS:
        raise LimitError(f"path of {len(components)} components is over the limit of {MAX_COMPONENTS}")
    return Path(namespace, Cid.parse(root) if namespace == "ipfs" else root, components)


def resolve(reader: BlockReader, path: Path) -> Resolved:
    """Follow `path`, reading the blocks on its way; the last one is read only to look inside (dag-cbor and its like).

    Raises:
        PathError: a component leads nowhere; says which, and in what.
        BlockNotFoundError: a block on the way is not there.
        NameNotResolvedError: the path is in the namespace `ipns`.
        DecodeError, UnsupportedCodecError: a block on the way does not decode, or of a codec unknown here.
        LimitError: over `MAX_COMPONENTS` components or `MAX_NESTED_OBJECTS` tags inside each other.
    """
    if not isinstance(path.root, Cid):
        raise NameNotResolvedError(path)
    if len(path.components) > MAX_COMPONENTS:
        raise LimitError(f"path of {len(path.components)} components is over the limit of {MAX_COMPONENTS}")
    return _Resolution(reader, path, path.root).run()


class _Resolution:
    """One path being followed: the node reached (`_cid`) and how many components led there (`_used`)."""

    def __init__(self, reader: BlockReader, path: Path, root: Cid) -> None:
        self._reader = reader
        self._path = path
        self._cid = root
        self._used = 0
        self._nested = 0
        self._link: PBLink | None = None

    def run(self) -> Resolved:
        while self._used < len(self._path.components):
            if self._cid.codec == codecs.RAW:
                raise self._error(f"no link named '{self._shown()}'", "a blob has no links")
            data = read_block(self._reader, self._cid)
            if self._cid.codec == codecs.DAG_PB:
                self._step_dag_pb(dag_pb.decode(data), self._path.components[self._used])
            elif (inside := self._step_data_model(codec_registry.decode(self._cid, data))) is not None:
                return inside
        return Resolved(self._cid, link=self._link)

    def _step_dag_pb(self, node: PBNode, name: bytes) -> None:
        if is_object_data(node.data):
            self._step_object(node, name)
            return
        try:
            message = unixfs.decode(node.data) if node.data is not None else None
        except UnixfsError:
            message = None  # a plain node, whose data is its maker's business
        if message is None:
            link = _find_link(node, name)
        elif message.type in (DataType.DIRECTORY, DataType.HAMT_SHARD):
            link = directory.lookup(self._reader, node, name)
        elif message.type in (DataType.FILE, DataType.RAW):
            link = self._list_child(node, message, name)
        else:
            reason = "a symlink, which paths do not follow" if message.type is DataType.SYMLINK else "not a directory"
            raise self._error(f"no link named '{self._shown()}'", f"'{self._cid}' is {reason}")
        if link is None:
            raise self._error(f"no link named '{self._shown()}'")
        self._follow(link.cid, link, 1)

    def _step_object(self, node: PBNode, name: bytes) -> None:
        """Take the link `name` of a commit or tag, or go on in its `object` without using up the component."""
        if (link := _find_link(node, name)) is not None:
            self._follow(link.cid, link, 1)
        elif (link := _find_link(node, b"object")) is not None:
            self._follow(link.cid, link, 0)
        else:
            raise self._error(f"no link named '{self._shown()}'", "the commit or tag has no 'object' to look in either")

    def _list_child(self, node: PBNode, message: unixfs.UnixfsData, name: bytes) -> PBLink:
        file = file_of(self._cid, node, message)
        if isinstance(file, Blob):
            raise self._error(f"no link named '{self._shown()}'", f"'{self._cid}' is a file, not a directory")
        index = _index(name, len(node.links))
        if index is None:
            last = len(node.links) - 1
            raise self._error(
                f"no link named '{self._shown()}'", f"'{self._cid}' is a file in parts: its children are 0 to {last}"
            )
        return node.links[index]

    def _step_data_model(self, value: Value) -> Resolved | None:
        """Go down inside one block until a link leads out of it; return the end if none does."""
        start = self._used
        while not isinstance(value, Cid):
            if self._used == len(self._path.components):
                return Resolved(self._cid, self._path.components[start:], value, self._link)
            value = self._child(value, self._path.components[self._used])
            self._used += 1
        used, self._used = self._used - start, start
        self._follow(value, None, used)
        return None

    def _child(self, value: Value, name: bytes) -> Value:
        if isinstance(value, dict):
            try:
                return value[name.decode("utf-8", "surrogateescape")]
            except KeyError:
                raise self._error(f"no key '{self._shown()}'") from None
        if isinstance(value, list):
            index = _index(name, len(value))
            if index is None:
                raise self._error(f"no index '{self._shown()}'", f"the list has {len(value)} items")
            return value[index]
        raise self._error(f"no key '{self._shown()}'", "a plain value is neither map nor list")

    def _follow(self, cid: Cid, link: PBLink | None, used: int) -> None:
        self._cid, self._link = cid, link
        self._used += used
        self._nested = 0 if used else self._nested + 1
        if self._nested > MAX_NESTED_OBJECTS:
            raise LimitError(f"over {MAX_NESTED_OBJECTS} tags, commits or links inside each other at '{cid}'")

    def _shown(self) -> str:
        return self._path.components[self._used].decode("utf-8", "backslashreplace")

    def _error(self, problem: str, hint: str | None = None) -> "PathError":
        prefix = replace(self._path, components=self._path.components[: self._used])
        return PathError(problem, prefix, self._cid, self._path.components[self._used], hint=hint)


def _find_link(node: PBNode, name: bytes) -> PBLink | None:
    return next((link for link in node.links if link.name == name), None)


def _index(name: bytes, count: int) -> int | None:
    """Return the index below `count` that `name` writes in plain decimal: no sign, no leading zero."""
    if not name.isdigit() or len(name) > len(str(count)) or (name[0:1] == b"0" and len(name) > 1):
        return None
    index = int(name)
    return index if index < count else None
