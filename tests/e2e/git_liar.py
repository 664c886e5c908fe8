"""Offers that are not what they say, made from honest ones, and sent by the node of a pusher who has rights."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from ipvcs.cli.app import App
from ipvcs.git_bridge.commits_table import encode_commits, read_commits
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.packing import packing, store_pack
from ipvcs.git_bridge.preparation import PackSupply
from ipvcs.git_bridge.push_replies import Answer, Progress, Text
from ipvcs.git_bridge.push_requests import Offer, OfferedPack
from ipvcs.git_bridge.ref_updates import Asked
from ipvcs.git_bridge.remote_owner import Owner
from ipvcs.git_bridge.remote_push import RemotePusher
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.objects.block import Block
from ipvcs.objects.chunkers.size import SizeChunker
from ipvcs.objects.file_layout import build_file
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.layout import LAYOUT, put_file
from ipvcs.objects.git.object_id import ObjectId
from tests.e2e.fetching import client_of
from tests.e2e.git_team import Team
from tests.e2e.git_user import GitUser


class _CapturedError(Exception):
    """An offer was made ready."""


class _Capturing(Owner):
    made: Offer | None = None

    def offer(self, offer: Offer) -> Iterator[Progress | Text | Answer]:
        self.made = offer
        raise _CapturedError


class Liar:
    """Who pushes from the repository of `user` to `place`, and may."""

    def __init__(self, team: Team, user: GitUser, place: str) -> None:
        self.team = team
        self.user = user
        self.place = place
        self.owner: Final = Owner(client_of(user.home), PeerId.parse(team.name))
        self._app = App(str(user.home), os.environ)

    def close(self) -> None:
        """Let go of the home."""
        self._app.close()

    def honest(self, *asked: Asked, objects: Sequence[str] | None = None) -> Offer:
        """Return the offer that a push of `asked` makes; with `objects`, its pack has these and no others."""
        repository = GitRepository(self.user.path / ".git", os.environ)
        home = self._app.home

        def make_pack(tips: Sequence[ObjectId], bases: Sequence[ObjectId]) -> AbstractContextManager[PackSupply | None]:
            if objects is None:
                return packing(repository, tips, bases, home.temporary)
            return _packed(self.user, objects, tips, bases)

        owner = _Capturing(client_of(self.user.home), self.owner.peer)
        pusher = RemotePusher(
            home, self._app.blocks, owner, tuple(self.place.encode().split(b"/")), repository, make_pack,
            lambda _line: None, lambda _stage, _done, _total: None,
        )  # fmt: skip
        with suppress(_CapturedError):
            pusher.push(asked, lambda _done, _total: None, lambda _done, _total: None, atomic=False, dry_run=False)
        assert owner.made is not None
        return owner.made

    def send(self, offer: Offer) -> Answer:
        """Make an offer; return the answer. Raises PushRefusedError and what else comes of it."""
        return next(reply for reply in self.owner.offer(offer) if isinstance(reply, Answer))

    def put(self, data: bytes) -> Cid:
        """Store a file in the liar's home."""
        with self._app.home.blocks.writing() as writer:
            return put_file(data, writer).cid

    def put_oddly(self, cid: Cid) -> Cid:
        """Store the file `cid` anew, cut into other pieces."""
        data = io.BytesIO(FileReader(self._app.home.blocks, cid).readall())
        with self._app.home.blocks.writing() as writer:
            return build_file(SizeChunker(100).chunks(data.read), LAYOUT, writer).cid

    def put_block(self, data: bytes, codec: int) -> Cid:
        """Store a block."""
        block = Block.of(data, codec)
        self._app.home.blocks.put_many([block])
        return block.cid

    def forge_table(self, offer: Offer, change: Callable[[ObjectId, Cid, int], tuple[ObjectId, Cid, int]]) -> Offer:
        """Return `offer` with a table of commits whose rows went through `change`."""
        pack = pack_of(offer)
        table = read_commits(self._app.home.blocks, pack.commits, offer.object_format)
        oids = [each.new for each in offer.updates if each.new is not None]
        rows = [(oid, *found) for oid in oids if (found := table.find(oid)) is not None]
        return replace(offer, pack=replace(pack, commits=self.put(encode_commits([change(*row) for row in rows]))))


def pack_of(offer: Offer) -> OfferedPack:
    """Return the pack of an offer that has one."""
    assert offer.pack is not None
    return offer.pack


@contextmanager
def _packed(
    user: GitUser, objects: Sequence[str], tips: Sequence[ObjectId], bases: Sequence[ObjectId]
) -> Iterator[PackSupply]:
    directory = user.path / ".git" / "lies"
    directory.mkdir(exist_ok=True)
    names = "".join(f"{each}\n" for each in objects).encode()
    name = user("pack-objects", "-q", str(directory / "pack"), stdin=names).strip()
    yield _Packed(directory / f"pack-{name}", tips, bases)


class _Packed:
    def __init__(self, path: Path, tips: Sequence[ObjectId], bases: Sequence[ObjectId]) -> None:
        self._parts = path, tips, bases

    def store(self, commits, writer, on_stored=lambda _done, _size: None, /):  # type: ignore[no-untyped-def]
        """See `PackSupply`."""
        return store_pack(*self._parts, commits, writer, on_stored)
