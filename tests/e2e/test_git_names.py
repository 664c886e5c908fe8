"""Names that somebody lies about: the reader's only peer in the DHT gives old records, and others than before."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keystore import Keystore
from ipvcs.node.naming.name_store import NameStore
from ipvcs.node.naming.record import IpnsRecord
from ipvcs.node.naming.validator import routing_key
from ipvcs.storage.home import open_home
from tests.cli_runner import Ipvcs
from tests.e2e.daemons import Daemons
from tests.e2e.fetching import address_of, bootstrap, connect, peer_of
from tests.e2e.git_user import GitUser
from tests.interop.lying_server import lying

pytestmark = pytest.mark.network

NS = 10**9


class Liar:
    """A publisher whose records reach the reader by a server of the DHT alone, which gives what it is told to."""

    def __init__(self, path: Path, lies: dict[bytes, bytes], server: str) -> None:
        self._lies = lies
        self.daemons = Daemons(path)
        self.publisher, self.reader = (self.daemons.make_home(name) for name in ("publisher", "reader"))
        with open_home(self.publisher) as home:
            home.config.set("Routing.Type", "none")
        bootstrap(self.reader, server)
        publisher = self.daemons.start(self.publisher)
        self.name = PeerId.parse(peer_of(publisher))
        connect(self.daemons.start(self.reader), address_of(publisher))  # who serves the blocks

    def serve(self, record: IpnsRecord | None) -> None:
        """Let the server give `record`, or none."""
        self._lies.clear()
        if record is not None:
            self._lies[routing_key(self.name)] = record.raw

    def record(self) -> IpnsRecord:
        """Return what the publisher has published last."""
        with open_home(self.publisher) as home:
            known = NameStore(home.datastore).try_get(self.name)
        assert known is not None
        return known.best

    def sign(self, value: bytes, sequence: int, lifetime: float = 3600) -> IpnsRecord:
        """Return a record of the publisher's key that the publisher does not know of."""
        key = Keystore(self.publisher / "keystore", lambda: b"", lambda: None).node_key()
        expires_ns = int((time.time() + lifetime) * NS)
        return IpnsRecord.sign(key, value, sequence=sequence, expires_ns=expires_ns, ttl_ns=0)


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    lies: dict[bytes, bytes] = {}
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(lying(lies)) as server:
        made = Liar(tmp_path / "net", lies, str(server.addr))
        yield made
        made.daemons.close()


@pytest.fixture
def records(liar: Liar, tmp_path: Path) -> list[IpnsRecord]:
    """Return the records of two pushes, of which the reader has seen the second in a clone of his."""
    author = GitUser(tmp_path / "work", liar.publisher).init()
    made = []
    for text in ("one", "two"):
        author.commit("file", text)
        author("push", "-q", "ipfs::/ipns/self", "main")
        made.append(liar.record())
    liar.serve(made[1])
    GitUser(tmp_path, liar.reader)("clone", "-q", f"ipfs::/ipns/{liar.name}", "clone")
    return made


@pytest.fixture
def reader(liar: Liar, records: list[IpnsRecord], tmp_path: Path) -> GitUser:
    """The reader in the clone."""
    return GitUser(tmp_path / "clone", liar.reader)


def check_untouched(reader: GitUser, before: dict[str, str]) -> None:
    """Check that a fetch ended well, and changed nothing."""
    assert reader.refs() == before
    assert reader("fsck", "--full", "--strict") == ""
    assert (reader.path / "file").read_text() == "two"


def test_an_old_record_is_not_followed_and_the_user_told_so(
    liar: Liar, records: list[IpnsRecord], reader: GitUser
) -> None:
    before = reader.refs()
    liar.serve(records[0])
    said = reader.run("fetch", "origin")
    assert said.code == 0
    assert "warning: the network has only an old record of '" in said.err
    assert f"sequence {records[0].sequence}, while {records[1].sequence} was seen before" in said.err
    assert f"`ipvcs name forget {liar.name.to_base36()}`" in said.err
    check_untouched(reader, before)
    main = reader("rev-parse", "main").strip()
    assert reader.remote_refs("origin") == {"refs/heads/main": main}

    Ipvcs(liar.reader).ok("name", "forget", str(liar.name))
    assert reader.remote_refs("origin") == {"refs/heads/main": reader("rev-parse", "main~1").strip()}


def test_of_a_fork_the_first_that_was_seen_stays_and_the_other_is_named(
    liar: Liar, records: list[IpnsRecord], reader: GitUser
) -> None:
    before = reader.refs()
    liar.serve(liar.sign(records[0].value, records[1].sequence))
    for _ in range(2):
        said = reader.run("fetch", "origin")
        assert said.code == 0
        assert f"was published twice with sequence {records[1].sequence}" in said.err
        assert f"as '{records[1].path}', which we keep to, and as '{records[0].path}'" in said.err
        assert f"`ipvcs name forget {liar.name.to_base36()}`" in said.err
        check_untouched(reader, before)

    Ipvcs(liar.reader).ok("name", "forget", str(liar.name))
    assert reader.remote_refs("origin") == {"refs/heads/main": reader("rev-parse", "main~1").strip()}


def test_a_fork_can_not_drive_the_terminal(liar: Liar, records: list[IpnsRecord], reader: GitUser) -> None:
    liar.serve(liar.sign(b"\x1b[31m\rboo", records[1].sequence))
    said = reader.run("fetch", "origin")
    assert "\\x1b[31m\\rboo" in said.err
    assert "\x1b[31m\rboo" not in said.err


def test_when_the_newest_has_expired_an_old_record_is_an_error(
    liar: Liar, records: list[IpnsRecord], reader: GitUser
) -> None:
    before = reader.refs()
    newest = liar.sign(records[1].value, 9, lifetime=3)
    liar.serve(newest)
    reader("fetch", "-q", "origin")
    time.sleep(max(0.0, newest.expires_ns / NS - time.time()) + 0.1)
    liar.serve(records[1])
    said = reader.run("fetch", "origin")
    assert said.code == 128
    assert said.err.startswith("error: the network has only an old record of '")
    assert "\nhint: its publisher may be offline, or someone serves an old version" in said.err
    assert f"`ipvcs name forget {liar.name.to_base36()}`" in said.err
    check_untouched(reader, before)

    liar.serve(None)
    said = reader.run("fetch", "origin")
    assert said.code == 128
    assert f"no record found; the one last seen expired at {newest.validity.decode()}" in said.err
    check_untouched(reader, before)
