"""What a push publishes, as real Kubo and Helia see it: they list, read and pin it, and keep it alive alone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipvcs.objects.git.object_id import ObjectFormat
from tests.e2e.git_user import GitUser
from tests.interop.exchange_node import OwnDaemon, own_daemon
from tests.interop.helia_peer import HeliaPeer
from tests.interop.kubo_peer import KuboPeer


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory, kubo: KuboPeer, helia: HeliaPeer) -> Iterator[OwnDaemon]:
    """A daemon of ours that is connected to both peers."""
    with own_daemon(tmp_path_factory.mktemp("publisher")) as daemon:
        daemon.connect(kubo.addrs[0])
        helia.dial(daemon.addr)
        yield daemon


@pytest.fixture(params=list(ObjectFormat))
def author(publisher: OwnDaemon, tmp_path: Path, request: pytest.FixtureRequest) -> GitUser:
    """A repository with a history, pushed."""
    return push_history(publisher, tmp_path, request.param)


def push_history(publisher: OwnDaemon, tmp_path: Path, object_format: ObjectFormat = ObjectFormat.SHA1) -> GitUser:
    """Make a repository with a history and push it."""
    user = GitUser(tmp_path / "work", publisher.home).init(object_format)
    for number in range(4):
        user.commit("docs/readme", f"text {number}\n")
    (user.path / "run").write_text("#!/bin/sh\n")
    (user.path / "run").chmod(0o755)
    user("add", "run")
    user("commit", "-q", "-m", "run")
    user("tag", "-a", "-m", "a tag", "v1")
    user("push", "-q", f"ipfs::/ipns/self/{tmp_path.name}", "main", "v1")
    return user


def root_of(publisher: OwnDaemon, tmp_path: Path) -> str:
    """Return the CID of the repository that the author pushed."""
    return publisher.ok("dag", "resolve", f"/ipns/self/{tmp_path.name}").out.strip()


def test_kubo_gets_the_whole_repository_and_git_clones_from_that(
    publisher: OwnDaemon, author: GitUser, kubo: KuboPeer, tmp_path: Path
) -> None:
    kubo.get(root_of(publisher, tmp_path), tmp_path / "got")
    assert (tmp_path / "got" / "heads" / "main" / "docs" / "readme").read_text() == "text 3\n"
    GitUser(tmp_path, publisher.home)("clone", "-q", "--mirror", "got", "copy")
    assert GitUser(tmp_path / "copy", publisher.home).objects() == author.objects()


def test_helia_lists_and_reads_what_people_browse(
    publisher: OwnDaemon, author: GitUser, helia: HeliaPeer, tmp_path: Path
) -> None:
    root = root_of(publisher, tmp_path)
    names = [entry["name"] for entry in helia.list_directory(root, "heads/main")]
    assert names == ["docs", "run"]
    names = [entry["name"] for entry in helia.list_directory(root, "tags/v1/docs")]
    assert names == ["readme"]
    del author


@pytest.mark.parametrize("object_format", ObjectFormat)
def test_from_a_pin_of_kubo_alone_a_clone_succeeds(
    start_kubo: Callable[..., KuboPeer], tmp_path: Path, object_format: ObjectFormat
) -> None:
    kubo = start_kubo()
    with own_daemon(tmp_path / "publisher") as publisher:
        author = push_history(publisher, tmp_path, object_format)
        publisher.connect(kubo.addrs[0])
        root = root_of(publisher, tmp_path)
        kubo.pin(root)
    with own_daemon(tmp_path / "reader") as reader:
        reader.connect(kubo.addrs[0])
        GitUser(tmp_path, reader.home)("clone", "-q", f"ipfs://{root}", "clone")
        clone = GitUser(tmp_path / "clone", reader.home)
        assert clone.objects() == author.objects()
        assert clone("fsck", "--full", "--strict") == ""
        assert clone("rev-parse", "--show-object-format").strip() == object_format
