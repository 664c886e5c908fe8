"""Pushes and clones on disks that fill up: `python -m tests.e2e.git_full_disk_worker DISK WHICH`.

WHICH fills: "push-home" the publisher's home, "clone-home" the reader's, "clone-work" the place of the reader's clone,
"owner-home" that of an owner whom somebody else pushes to.
Runs in a mount namespace of its own, with a tmpfs at DISK/small; what does not fill up is beside it.
"""

import sys
from pathlib import Path

from tests.cli_runner import Ipvcs
from tests.e2e import mounts
from tests.e2e.daemons import Daemons
from tests.e2e.fetching import MIB, address_of, bootstrap, noise, peer_of
from tests.e2e.git_user import GitUser

SIZE = 6 * MIB
"""Of what is pushed; nothing compresses it."""


def make(daemons: Daemons, path: Path, knows: str = "") -> tuple[Path, str, str]:
    """Start a daemon on a home at `path`; return home, address and NodeId."""
    home = Daemons(path.parent).make_home(path.name)
    if knows:
        bootstrap(home, knows)
    daemon = daemons.start(home)
    return home, address_of(daemon), peer_of(daemon)


NO_SPACE = ("no space left on the disk of", "No space left on device", "Out of diskspace")
"""What we say of a full disk, what libc does, and what git does of a pack."""


def fails(user: GitUser, *words: str, where: Path | str) -> None:
    """Run a command of git that has to fail, and say why, and where if it is not for git to say."""
    said = user.run(*words)
    assert said.code in (1, 128), said
    assert any(each in said.err for each in NO_SPACE), said.err
    assert str(where) in said.err, said.err


def push(path: Path, disk: mounts.Disk, daemons: Daemons) -> None:
    """Push onto a home without room, and again when there is some."""
    publisher, _address, _name = make(daemons, disk.path / "publisher")
    author = GitUser(path / "work", publisher).init()
    author.commit("file", "one")
    author("push", "-q", "ipfs::/ipns/self", "main")
    before = author.remote_refs("ipfs::/ipns/self")
    (author.path / "blob").write_bytes(noise(SIZE, 1))
    author("add", "blob")
    new = author.commit("file", "two")
    for room in (64 * 1024, MIB, SIZE // 2, SIZE + MIB):
        disk.fill(leave=room)
        fails(author, "push", "ipfs::/ipns/self", "main", where=publisher)
        assert author.remote_refs("ipfs::/ipns/self") == before
        assert list((publisher / "tmp").glob("*")) == []
    ipvcs = Ipvcs(publisher)
    ipvcs.ok("repo", "verify")
    ipvcs.ok("pin", "verify")
    disk.empty()
    author("push", "-q", "ipfs::/ipns/self", "main")
    assert author.remote_refs("ipfs::/ipns/self") == {"refs/heads/main": new}
    author("clone", "-q", "ipfs::/ipns/self", str(path / "copy"))
    assert GitUser(path / "copy", publisher).objects("HEAD") == author.objects("main")


def clone(path: Path, disk: mounts.Disk, daemons: Daemons, which: str) -> None:
    """Clone with a home, or into a directory, without room, and again when there is some."""
    publisher, address, name = make(daemons, path / "publisher")
    author = GitUser(path / "work", publisher).init()
    (author.path / "blob").write_bytes(noise(SIZE, 1))
    author("add", "blob")
    author.commit("file", "two")
    author("push", "-q", "ipfs::/ipns/self", "main")
    home, _address, _name = make(daemons, (disk.path if which == "clone-home" else path) / "reader", address)
    into = disk.path if which == "clone-work" else path
    user = GitUser(path, home)
    where = home if which == "clone-home" else ""
    for room in (MIB, SIZE // 2):
        disk.fill(leave=room)
        fails(user, "clone", "-q", f"ipfs::/ipns/{name}", str(into / "clone"), where=where)
        assert not (into / "clone").exists()
    Ipvcs(home).ok("repo", "verify")
    disk.empty()
    user("clone", "-q", f"ipfs::/ipns/{name}", str(into / "clone"))
    reader = GitUser(into / "clone", home)
    assert reader.objects("HEAD") == author.objects("main")
    assert reader("fsck", "--full") == ""


def push_to_owner(path: Path, disk: mounts.Disk, daemons: Daemons) -> None:
    """Push to somebody whose home has no room, and again when it has some."""
    owner, address, name = make(daemons, disk.path / "owner")
    pusher, _address, peer = make(daemons, path / "pusher", address)
    Ipvcs(owner).ok("access", "add", peer, "x")
    url = f"ipfs::/ipns/{name}/x"
    author = GitUser(path / "work", pusher).init()
    author.commit("file", "one")
    author("push", "-q", url, "main")
    before = author.remote_refs(url)
    (author.path / "blob").write_bytes(noise(SIZE, 1))
    author("add", "blob")
    new = author.commit("file", "two")
    for room in (64 * 1024, MIB, SIZE + MIB):
        disk.fill(leave=room)
        said = author.run("push", url, "main")
        assert said.code == 1, said
        assert "the owner's disk is full" in said.err, (room, said.err)
        assert str(owner) not in said.err, said.err
        assert author.remote_refs(url) == before
        assert list((owner / "tmp").glob("*")) == []
    ipvcs = Ipvcs(owner)
    ipvcs.ok("repo", "verify")
    ipvcs.ok("pin", "verify")
    disk.empty()
    author("push", "-q", url, "main")
    assert author.remote_refs(url) == {"refs/heads/main": new}


def main(path: Path, which: str) -> None:
    """Do one of them."""
    mounts.enter()
    (path / "small").mkdir()
    disk = mounts.Disk(path / "small", 64 * MIB)
    daemons = Daemons(path)
    try:
        if which == "push-home":
            push(path, disk, daemons)
        elif which == "owner-home":
            push_to_owner(path, disk, daemons)
        else:
            clone(path, disk, daemons, which)
    finally:
        daemons.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
