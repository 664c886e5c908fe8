"""Git objects in the form of mapping v1, read by Helia, which knows nothing of Git: it sees directories and files."""

from hashlib import sha256
from pathlib import Path

import pytest

from ipvcs.objects.block import Block
from ipvcs.objects.car_writer import write_car
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectFormat
from ipvcs.objects.walk import walk
from tests.interop.helia_peer import HeliaPeer
from tests.interop.json_peer import PeerError
from tests.streams import chacha20_stream
from tests.unit.objects.git.repository import Repository

LARGE = chacha20_stream("git blob", 3_000_000)


def described(data: bytes) -> tuple[int, str]:
    """Return what Helia says of a file that it has read."""
    return len(data), sha256(data).hexdigest()


@pytest.mark.parametrize("object_format", ObjectFormat)
def test_helia_browses_a_commit_of_ours_and_walks_its_history(
    helia: HeliaPeer, tmp_path: Path, object_format: ObjectFormat
) -> None:
    repository = Repository(object_format)
    wide = repository.tree(
        (b"100644", b"%04d-%b" % (index, b"n" * 100), repository.blob(b"%d" % index)) for index in range(2500)
    )
    root = repository.tree(
        [
            (b"100644", b"large", repository.blob(LARGE)),
            (b"120000", b"link", repository.blob(b"large")),
            (b"100755", b"run", repository.blob(b"#!/bin/sh\n")),
            (b"40000", b"wide", wide),
        ]
    )
    first = repository.commit(root)
    second = repository.commit(wide, first)
    commit = repository.round_trip(second, NodeKind.COMMIT).cid
    with (tmp_path / "history.car").open("wb") as file:
        write_car([commit], (Block(cid, data) for cid, data in walk(repository.store, [commit])), file.write)

    assert helia.car_import(tmp_path / "history.car") == [str(commit)]
    tree = str(repository.map(root, NodeKind.DIRECTORY).cid)
    assert [entry["name"] for entry in helia.list_directory(tree)] == ["large", "link", "run", "wide"]
    assert helia.cat(tree, path="large") == described(LARGE)
    assert helia.cat(tree, path="run") == described(b"#!/bin/sh\n")
    names = [entry["name"] for entry in helia.list_directory(tree, "wide")]
    assert len(names) == 2501  # the exact tree is an entry of its own where the directory is sharded
    assert ".ipvcs-tree" in names
    assert helia.cat(tree, path=f"wide/2499-{'n' * 100}") == described(b"2499")
    # Deliberately no UnixFS: Helia takes the commit itself for an empty file, and follows no path through it.
    assert helia.cat(str(commit)) == described(b"")
    with pytest.raises(PeerError, match="NotUnixFSError"):
        helia.cat(str(commit), path="parent/object/large")
