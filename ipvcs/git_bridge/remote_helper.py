"""The remote helper: answers what git asks on stdin, for one remote.

Spec: gitremote-helpers(7); SPECSHEET §17
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Final, Protocol

from ipvcs.errors import UsageError
from ipvcs.git_bridge.conversion import OnProgress
from ipvcs.git_bridge.fetch import Fetcher, FetchRequest, FetchWay
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.helper_protocol import (
    CapabilitiesAsked,
    FetchAsked,
    HelperProtocol,
    OptionGiven,
    PushAsked,
    PushSpec,
    RefsAsked,
    SessionEnded,
)
from ipvcs.git_bridge.names import Names
from ipvcs.git_bridge.object_feed import GitObjectMissingError, find_all
from ipvcs.git_bridge.packing import packing
from ipvcs.git_bridge.published_tree import PublishedTree, read_published
from ipvcs.git_bridge.push import LocalPush, Pusher, Target
from ipvcs.git_bridge.push_report import report
from ipvcs.git_bridge.readers import FetchReader
from ipvcs.git_bridge.ref_updates import Asked, Verdict
from ipvcs.git_bridge.remote_owner import Owner
from ipvcs.git_bridge.remote_push import RemotePusher
from ipvcs.git_bridge.remote_url import RemoteUrl
from ipvcs.git_bridge.shallow import WHOLE, Depth
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId, PeerIdError
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.path import parse_path, resolve
from ipvcs.storage.home import Home

_LONG: Final = 2.0
"""Seconds after which storing a pack is worth a line of its own: git's own delay."""
_MAX_STAGES: Final = 32
"""Of a remote node's work that are shown: an honest one has three that count anything."""
_CAPABILITIES: Final = (b"fetch", b"push", b"option", b"object-format", b"check-connectivity")


class ReadOnlyRemoteError(UsageError):
    """A remote that can't be pushed to."""

    exit_code = 128

    def __init__(self, url: RemoteUrl, why: str, hint: str) -> None:
        super().__init__(f"cannot push to '{url}': {why}", hint=hint)
        self.url = url


class PartialFetchError(UsageError):
    """Git wants a part of the objects, and would ask for each of the others when it misses it."""

    exit_code = 128

    def __init__(self, url: RemoteUrl) -> None:
        super().__init__(
            f"cannot fetch a part of '{url}': it has no filters", hint="without '--filter' all of it comes"
        )
        self.url = url


class Node(Protocol):
    """What the helper needs of the home and its node."""

    @property
    def home(self) -> Home:
        """The home."""

    @property
    def reader(self) -> FetchReader:
        """Its blocks; those that it lacks are fetched."""

    @property
    def names(self) -> Names:
        """Names; asking starts the node if none runs."""

    def find_key(self, name: str) -> tuple[str, PeerId] | None:
        """Return (name, NodeId) of the key of ours that `name`, either of both, means; None: it is none of ours."""

    def owner(self, peer: PeerId) -> Owner:
        """Return the node `peer`, to be asked for a push; asking starts ours if none runs."""

    @property
    def stays(self) -> bool:
        """Whether the node goes on serving when this command has ended."""

    def note(self, line: str) -> None:
        """Tell the user something."""

    def progress(self, title: str, *, delay: float = 0.0) -> OnProgress:
        """Return what tells the user how far it is with what `title` says, in git's manner, from `delay` seconds on."""


@dataclass(slots=True)
class _Options:
    verbosity: int = 1
    progress: bool = False
    dry_run: bool = False
    atomic: bool = False
    shows_object_format: bool = False
    depth: int | None = None
    deepens: bool = False
    checks_connectivity: bool = False
    follows_tags: bool = False
    leases: dict[bytes, ObjectId | None] = field(default_factory=dict)
    push_options: list[bytes] = field(default_factory=list)


class RemoteHelper:
    """One session with git."""

    def __init__(
        self,
        url: RemoteUrl,
        repository: GitRepository,
        node: Node,
        stdin: IO[bytes],
        stdout: IO[bytes],
        *,
        way: FetchWay | None = None,
    ) -> None:
        """Answer for the remote `url` of `repository`; `way`: how to fetch, None: as suits."""
        self._url = url
        self._repository = repository
        self._node = node
        self._stdin = stdin
        self._stdout = stdout
        self._way = way
        self._options = _Options()
        self._listed: PublishedTree | None = None
        self._stages: dict[str, OnProgress] = {}

    def run(self) -> None:
        """Answer until git wants nothing more. Raises what goes wrong; git then sees the session end."""
        protocol = HelperProtocol()
        for line in self._stdin:
            request = protocol.receive_line(line.removesuffix(b"\n"))
            if isinstance(request, SessionEnded):
                return
            if isinstance(request, CapabilitiesAsked):
                self._say(*_CAPABILITIES, b"")
            elif isinstance(request, OptionGiven):
                self._say(self._take_option(request.name, request.value))
            elif isinstance(request, RefsAsked):
                self._list(for_push=request.for_push)
            elif isinstance(request, FetchAsked):
                self._fetch([oid for oid, _name in request.wanted])
            elif isinstance(request, PushAsked):
                self._push(request.specs)
        protocol.receive_end()

    def _say(self, *lines: bytes) -> None:
        self._stdout.write(b"".join(line + b"\n" for line in lines))
        self._stdout.flush()

    # ---- options ----

    def _take_option(self, name: str, value: bytes) -> bytes:
        options = self._options
        if name == "verbosity" and value.isdigit():
            options.verbosity = int(value)
        elif name == "depth" and value.isdigit() and 0 < int(value) <= WHOLE:
            options.depth = int(value)
        elif name == "object-format" and value in (b"", b"true"):  # git 2.39 sends no value, and ends if it is refused
            options.shows_object_format = True
        elif name in _FLAGS and value in (b"true", b"false"):
            _FLAGS[name](options, value == b"true")
        elif name == "cas":
            target, _, expected = value.rpartition(b":")
            oid = ObjectId.parse(expected.decode(errors="replace"))
            options.leases[target] = oid if any(oid.raw) else None
        elif name == "push-option" and self._find_key() is None:  # for hooks; we have none for ourselves
            options.push_options.append(value)
        elif name == "filter":  # "unsupported" would be ignored, and git ask us for what we ask git whether it has
            raise PartialFetchError(self._url)
        else:
            return b"unsupported"
        return b"ok"

    # ---- list ----

    def _list(self, *, for_push: bool) -> None:
        if for_push:
            standing = self._pusher().read()
            if self._options.verbosity >= 1:
                self._warn(standing.warnings)
            tree = standing.tree
        else:
            tree = self._listed = self._read()
        lines: list[bytes] = []
        if tree is not None:
            object_format, refs, head = tree.manifest.object_format, tree.refs, tree.manifest.head
            if self._options.shows_object_format and object_format is not ObjectFormat.SHA1:
                lines.append(b":object-format " + object_format.encode())
            if for_push:  # as receive-pack: `push --mirror` would delete a HEAD that is listed
                pass
            elif isinstance(head, ObjectId):
                lines.append(head.hex.encode() + b" HEAD")
            elif head in refs:
                lines.append(b"@" + (head or b"") + b" HEAD")
            for name, ref in refs.items():
                lines.append(ref.oid.hex.encode() + b" " + name)
                if not for_push and (peeled := tree.peeled.get(name)) is not None:  # by which git finds tags to follow
                    lines.append(peeled.hex.encode() + b" " + name + b"^{}")
        self._say(*lines, b"")

    def _read(self) -> PublishedTree:
        reader = self._node.reader
        root: Cid
        if self._url.namespace == "ipns":
            own = self._node.find_key(self._url.root)
            found = self._node.names.newest(self._url.root, own[1] if own else None)
            self._warn(found.warnings)
            if found.path is None:
                raise UsageError(f"nothing was pushed to '{self._url}' yet", hint=f"`git push ipfs::{self._url}` does")
            path = parse_path("/".join((found.path.rstrip("/"), *self._url.path)))
        else:
            path = parse_path(str(self._url))
        root = resolve(reader, path).cid
        return read_published(reader, root)

    def _warn(self, warnings: Sequence[str]) -> None:
        for warning in warnings:
            self._node.note(f"warning: {warning}")

    # ---- fetch ----

    def _fetch(self, wanted: Sequence[ObjectId]) -> None:
        tree = self._listed or self._read()
        tree.check_format(self._repository.object_format)
        options = self._options
        quiet = options.verbosity < 1 or not options.progress
        depth = None if options.depth is None else Depth(options.depth, options.deepens)
        request = FetchRequest(
            sorted(set(wanted)),
            depth,
            self._way,
            follows_tags=options.follows_tags,
            checks=options.checks_connectivity,
            quiet=quiet,
        )
        node = self._node
        progress = _show_nothing if quiet else node.progress("Receiving objects")
        is_checked = Fetcher(request, self._repository, node.reader, tree, node.home.temporary, progress).run()
        self._say(*((b"connectivity-ok", b"") if is_checked else (b"",)))

    # ---- push ----

    def _find_key(self) -> tuple[str, PeerId] | None:
        return self._node.find_key(self._url.root) if self._url.is_writable else None

    def _pusher(self) -> Pusher | RemotePusher:
        """Return what pushes to the remote: its key is ours, or it is another node's name, and that node is asked."""
        if not self._url.is_writable:
            raise ReadOnlyRemoteError(
                self._url, "a CID never changes", "push to a name: `ipfs::/ipns/self` is this home's own"
            )
        node = self._node
        path = tuple(part.encode(errors="surrogateescape") for part in self._url.path)
        if (found := self._find_key()) is not None:
            key, name = found
            return Pusher(node.home, node.reader, node.names, self._repository.object_format, Target(key, name, path))
        try:
            owner = PeerId.parse(self._url.root)
        except PeerIdError:
            raise ReadOnlyRemoteError(
                self._url,
                f"this home has no key '{self._url.root}'",
                "`ipvcs key list` shows those it has; `ipvcs key gen NAME` makes one",
            ) from None
        return RemotePusher(
            node.home, node.reader, node.owner(owner), path, self._repository,
            partial(packing, self._repository, temporary=node.home.temporary), self._hear, self._show_stage,
        )  # fmt: skip

    def _push(self, specs: Sequence[PushSpec]) -> None:
        asked: list[Asked] = []
        sources = [spec.source for spec in specs if spec.source]
        found = dict(zip(sources, find_all(self._repository, sources), strict=True))
        for spec in specs:
            new = found.get(spec.source)
            if spec.source and new is None:
                raise GitObjectMissingError(spec.source.decode(errors="replace"))
            has_lease = spec.target in self._options.leases
            expected = self._options.leases.get(spec.target)
            asked.append(Asked(spec.target, new, spec.force, has_lease, expected))
        options = self._options
        progress = self._node.progress("Converting objects") if self._shows else _show_nothing
        storing = self._node.progress("Storing bytes", delay=_LONG) if self._shows else _show_nothing
        pusher = self._pusher()
        if isinstance(pusher, RemotePusher):
            verdicts: Sequence[Verdict] = pusher.push(
                asked, progress, storing,
                atomic=options.atomic, dry_run=options.dry_run, options=options.push_options,
            )  # fmt: skip
        else:
            pushed = pusher.push(self._work(asked), progress, storing, dry_run=options.dry_run)
            for line in report(pushed, str(self._url), options.verbosity, stays=self._node.stays):
                self._node.note(line)
            verdicts = pushed.verdicts
        self._say(*map(_answer, verdicts), b"")

    @property
    def _shows(self) -> bool:
        return self._options.progress and self._options.verbosity >= 1

    def _work(self, asked: Sequence[Asked]) -> LocalPush:
        return LocalPush(self._repository, asked, self._node.home.temporary, self._options.atomic)

    def _hear(self, line: str) -> None:
        """Show what a remote node has to say, as git does."""
        self._node.note(f"remote: {line}")

    def _show_stage(self, stage: str, done: int, total: int) -> None:
        """Show how far a remote node is."""
        if self._shows and total:
            if stage not in self._stages and len(self._stages) < _MAX_STAGES:
                self._stages[stage] = self._node.progress(f"remote: {stage}", delay=_LONG)
            self._stages.get(stage, _show_nothing)(done, total)


def _answer(verdict: Verdict) -> bytes:
    if verdict.refusal is None:
        return b"ok " + verdict.target + (b" forced update" if verdict.forced else b"")
    return b"error " + verdict.target + b" " + verdict.refusal.encode()


def _show_nothing(_done: int, _total: int) -> None:
    """Show no progress."""


def _flag(name: str) -> Callable[[_Options, bool], None]:
    return lambda options, value: setattr(options, name, value)


_FLAGS: Final[dict[str, Callable[[_Options, bool], None]]] = {
    "progress": _flag("progress"),
    "dry-run": _flag("dry_run"),
    "atomic": _flag("atomic"),
    "deepen-relative": _flag("deepens"),
    "check-connectivity": _flag("checks_connectivity"),
    "followtags": _flag("follows_tags"),
    "force": lambda _options, _value: None,  # each update that is forced says so
    "cloning": lambda _options, _value: None,
}
