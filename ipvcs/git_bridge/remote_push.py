"""A push to a name whose key another node has: made ready here as for ourselves, offered, and done by that node.

    ask the owner what is there ─► judge ─► convert and pack in a session ─► offer ─► it fetches, checks, publishes

The session stays open until the answer is here: its lease keeps the blocks that the owner fetches from our node.

Spec: docs/protocols/push.md
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ipvcs.errors import IntegrityError, LimitError
from ipvcs.git_bridge.conversion import OnProgress
from ipvcs.git_bridge.git import GitError, GitRepository
from ipvcs.git_bridge.local_objects import LocalObjects
from ipvcs.git_bridge.object_feed import TypeReader
from ipvcs.git_bridge.packing import OnStored, StoredPack
from ipvcs.git_bridge.preparation import MakePack, Preparation, Prepared, SessionReader
from ipvcs.git_bridge.published_tree import PublishedTree, new_tree, read_published
from ipvcs.git_bridge.push_replies import Answer, Standing, Text
from ipvcs.git_bridge.push_requests import Offer, OfferedPack, Update
from ipvcs.git_bridge.ref_updates import Asked, Verdict, decide
from ipvcs.git_bridge.refname import BRANCHES, RefName, RefNameError, parse_refname
from ipvcs.git_bridge.remote_owner import Owner
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockReader
from ipvcs.objects.git.layout import MAPPING_VERSION
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.storage.home import Home

_KEY_SIZE: Final = 16
_MAX_TEXT: Final = 64 * 1024
"""Bytes of what the owner has to say that are shown of one push."""


class PackTooLargeError(LimitError):
    """The owner takes no pack of that size."""

    def __init__(self, size: int, max_bytes: int) -> None:
        super().__init__(
            f"the push has {size:,} bytes, and the owner takes {max_bytes:,} at once",
            hint="push older commits first, or ask the owner to raise `Push.MaxBytes`",
        )


class OtherAnswerError(IntegrityError):
    """The owner has answered about other refs than it was asked about."""

    def __init__(self) -> None:
        super().__init__("the owner's answer is about other refs", hint="`git ls-remote` shows what is there")


@dataclass(frozen=True, slots=True)
class RemoteStanding:
    """What is at the place before a push. `tree` is None where nothing was pushed yet."""

    there: Standing
    tree: PublishedTree | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemotePusher:
    """Pushes from `repository` to `path` behind the name of `owner`.

    `say` is given each line that the owner has for the user, `show` how far it is with what.
    """

    home: Home
    reader: BlockReader
    owner: Owner
    path: tuple[bytes, ...]
    repository: GitRepository
    make_pack: MakePack
    say: Callable[[str], None]
    show: Callable[[str, int, int], None]

    def read(self) -> RemoteStanding:
        """Ask the owner what is there.

        Raises:
            PushRefusedError: we have no rights there. RemoteCommandError: it can't be asked.
            OtherFormatError: the repository there has ids of another hash function.
        """
        there = self.owner.standing(self.path)
        tree = None
        if there.repository is not None:
            tree = read_published(self.reader, there.repository)
            tree.check_format(self.repository.object_format)
        return RemoteStanding(there, tree)

    def push(
        self,
        asked: Sequence[Asked],
        progress: OnProgress,
        storing: OnStored,
        *,
        atomic: bool,
        dry_run: bool,
        options: Sequence[bytes] = (),
    ) -> list[Verdict]:
        """Have done what is asked as far as it may be, and return what became of each update.

        Raises:
            PushRefusedError: the owner refuses the push as a whole; nothing has changed.
            AnswerLostError: it went away, and may have done it or not.
            RemoteCommandError: it can't be asked. PackTooLargeError. As `Preparation.run`.
        """
        standing = self.read()
        refs = {} if standing.tree is None else {name: ref.oid for name, ref in standing.tree.refs.items()}
        head = None if standing.tree is None else standing.tree.manifest.head
        with TypeReader.open(self.repository) as types:
            facts = LocalObjects(self.repository, types)
            branch = None if isinstance(head, ObjectId) else head
            verdicts = decide(asked, refs, branch, facts, atomic=atomic)
        wanted = [(each, verdict) for each, verdict in zip(asked, verdicts, strict=True) if verdict.refusal is None]
        if not wanted:
            return verdicts
        if dry_run:
            updates = tuple(_update(each, verdict, refs, None) for each, verdict in wanted)
            offer = self._offer(standing, updates, None, atomic=atomic, dry_run=True, options=options)
            return _merge(verdicts, self._answer(offer))
        with self.home.blocks.writing() as writer:
            tree = standing.tree or new_tree(self.repository.object_format, self.owner.peer)
            preparation = Preparation(self.home, self.repository, self.make_pack, progress, storing, publishes=False)
            tips = sorted({each.new for each, _verdict in wanted if each.new is not None})
            prepared = preparation.run(tips, tree, SessionReader(writer, self.reader), writer)
            writer.flush()
            pack = None if prepared.pack is None else _offered(prepared.pack, standing.there)
            updates = tuple(_update(each, verdict, refs, prepared) for each, verdict in wanted)
            offer = self._offer(standing, updates, pack, atomic=atomic, dry_run=False, options=options)
            return _merge(verdicts, self._answer(offer))

    def _offer(
        self,
        standing: RemoteStanding,
        updates: tuple[Update, ...],
        pack: OfferedPack | None,
        *,
        atomic: bool,
        dry_run: bool,
        options: Sequence[bytes],
    ) -> Offer:
        tree = standing.tree or new_tree(self.repository.object_format, self.owner.peer)
        return Offer(
            path=self.path,
            key=secrets.token_bytes(_KEY_SIZE),
            object_format=self.repository.object_format,
            mapping=MAPPING_VERSION,
            profile=tree.manifest.profile,
            updates=updates,
            pack=pack,
            atomic=atomic,
            dry_run=dry_run,
            head=self._current_branch(),
            push_options=tuple(options),
        )

    def _current_branch(self) -> RefName | None:
        with suppress(GitError, RefNameError):
            name = parse_refname(self.repository.run("symbolic-ref", "-q", "HEAD").strip())
            return name if name.startswith(BRANCHES) else None
        return None

    def _answer(self, offer: Offer) -> Answer:
        """Make the offer, and return the answer; what comes beside it is shown."""
        answer: Answer | None = None
        left = _MAX_TEXT
        for reply in self.owner.offer(offer):
            if isinstance(reply, Answer):
                answer = reply
            elif isinstance(reply, Text):
                for line in printable_lines(reply.text[:left]):
                    self.say(line)
                left -= len(reply.text[:left])
            else:
                self.show(printable(reply.stage), reply.done, reply.total)
        assert answer is not None, "an offer is answered, or an error"
        if [each.name for each in answer.results] != [each.name for each in offer.updates]:
            raise OtherAnswerError
        return answer


def printable_lines(text: bytes) -> Iterator[str]:
    """Yield the lines of what the owner wants shown."""
    return map(printable, text.decode(errors="replace").splitlines())


def printable(text: str) -> str:
    """Return what a stranger wants shown in one line, without what could drive a terminal, or git."""
    return "".join(each if each.isprintable() or each == "\t" else "�" for each in text)


def _update(asked: Asked, verdict: Verdict, refs: dict[RefName, ObjectId], prepared: Prepared | None) -> Update:
    cid = prepared.mapped[asked.new].cid if prepared is not None and asked.new is not None else None
    return Update(asked.target, refs.get(RefName(asked.target)), asked.new, verdict.forced, cid)


def _offered(pack: StoredPack, there: Standing) -> OfferedPack:
    entry = pack.entry
    if entry.size > there.max_bytes:
        raise PackTooLargeError(entry.size, there.max_bytes)
    files: dict[str, Cid] = {
        suffix: pack.files[f"{entry.name}{suffix}".encode()].cid for suffix in (".pack", ".commits")
    }
    return OfferedPack(entry.name, files[".pack"], files[".commits"], entry.size, entry.objects)


def _merge(verdicts: Sequence[Verdict], answer: Answer) -> list[Verdict]:
    """Return `verdicts`, with the owner's word on those that were its to give."""
    told = {
        each.name: Verdict(each.name, None if each.refusal is None else printable(each.refusal), each.forced)
        for each in answer.results
    }
    return [told.get(each.target, each) if each.refusal is None else each for each in verdicts]
