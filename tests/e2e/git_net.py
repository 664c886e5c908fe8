"""Where the tests of git remotes take place: three daemons, of which the reader knows the one in the middle alone."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.daemons import Daemons
from tests.e2e.fetching import address_of, bootstrap, client_of, connect, peer_of
from tests.e2e.git_user import GitUser
from tests.e2e.slow_link import SlowLink


class Net:
    """A publisher and a reader who meet through a third node."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.daemons = Daemons(path)
        middle = self.daemons.start(self.daemons.make_home("middle"))
        self.publisher, self.reader = (self.daemons.make_home(name) for name in ("publisher", "reader"))
        for home in (self.publisher, self.reader):
            bootstrap(home, address_of(middle))
        self.running = {home: self.daemons.start(home) for home in (self.publisher, self.reader)}
        self.name = peer_of(self.running[self.publisher])

    def url(self, path: Path) -> str:
        """Return a remote of the publisher's name that no other test uses."""
        return f"ipfs::/ipns/{self.name}/{path.name}"

    @contextmanager
    def slow_link(self, rate: float) -> Iterator[SlowLink]:
        """Let the reader's only way to the publisher be one of `rate` bytes a second while the block runs."""
        reader = client_of(self.reader)
        with SlowLink(address_of(self.running[self.publisher]), rate) as link:
            for peer in reader.call("swarm/peers")["Peers"] or []:
                if peer["Peer"] == self.name:
                    reader.call("swarm/disconnect", f"{peer['Addr']}/p2p/{self.name}")
            connect(self.running[self.reader], link.address)
            yield link

    @contextmanager
    def gone(self, home: Path, number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
        """End the daemon of `home`, and start another after the block."""
        self.running[home].end(number)
        try:
            yield
        finally:
            self.running[home] = self.daemons.start(home)


def clone(net: Net, tmp_path: Path, name: str = "clone", *words: str) -> GitUser:
    """Clone what the author pushed, as the reader."""
    GitUser(tmp_path, net.reader)("clone", "-q", *words, net.url(tmp_path), name)
    return GitUser(tmp_path / name, net.reader)
