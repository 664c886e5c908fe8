"""Where the tests of pushing to somebody else's node take place: an owner, two who push, a reader, and a DHT node."""

from pathlib import Path

from ipvcs.multiformats.peer_id import PeerId
from ipvcs.storage.access import AccessList, Right, parse_repository_path
from ipvcs.storage.home import open_home
from ipvcs.storage.push_log import LoggedPush, PushLog
from tests.e2e.daemons import Daemons
from tests.e2e.fetching import address_of, bootstrap, peer_of

ALL = frozenset(Right)


class Team:
    """Homes and their daemons, of which each knows the one in the middle alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.daemons = Daemons(path)
        middle = self.daemons.start(self.daemons.make_home("middle"))
        self.owner, self.alice, self.bob, self.reader = (
            self.daemons.make_home(name) for name in ("owner", "alice", "bob", "reader")
        )
        homes = (self.owner, self.alice, self.bob, self.reader)
        for home in homes:
            bootstrap(home, address_of(middle))
        self.running = {home: self.daemons.start(home) for home in homes}
        self.name = self.id_of(self.owner)

    def id_of(self, home: Path) -> str:
        """Return the NodeId of a home whose daemon runs."""
        return peer_of(self.running[home])

    def url(self, place: str) -> str:
        """Return the remote at `place` behind the owner's name."""
        return f"ipfs::/ipns/{self.name}/{place}"

    def grant(self, home: Path, place: str, rights: frozenset[Right] = ALL) -> None:
        """Let the node of `home` push to `place`: as `ipvcs access add` does, which has its own tests."""
        with open_home(self.owner) as opened:
            AccessList(opened.datastore).add(PeerId.parse(self.id_of(home)), parse_repository_path(place), rights)

    def revoke(self, home: Path, place: str) -> None:
        """Let it push there no more."""
        with open_home(self.owner) as opened:
            assert AccessList(opened.datastore).remove(PeerId.parse(self.id_of(home)), parse_repository_path(place))

    def pushes(self, place: str) -> list[LoggedPush]:
        """Return what the owner has logged of `place`, the newest first."""
        path = parse_repository_path(place)
        with open_home(self.owner) as opened:
            return [push for push in PushLog(opened.datastore).iter_newest(None) if push.path == path]
