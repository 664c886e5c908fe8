"""Two daemons, one of which asks to push to the other: the way there and back, and who is let in."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipvcs.client.client import Client, RemoteCommandError
from ipvcs.client.socket_path import find_socket
from ipvcs.git_bridge.push_replies import Failure, FailureCode, Progress, Reply, Standing, decode_reply
from ipvcs.git_bridge.push_requests import Offer, Query, Update, encode_request
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from tests.cli_runner import Ipvcs
from tests.e2e.daemons import Daemons, wait_ended

pytestmark = pytest.mark.network

UPDATE = Update(b"refs/heads/main", None, ObjectId(bytes(20)), cid=Cid.of(bytes(32)))
OFFER = Offer((b"team",), bytes(16), ObjectFormat.SHA1, 1, "unixfs-v1-2025", (UPDATE,))


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    daemons = Daemons(tmp_path)
    yield daemons
    daemons.close()


def ask(home: Path, owner: str, *path: bytes) -> tuple[dict[str, Any], Reply]:
    """Ask `owner`, a NodeId or an address, by the daemon of `home`."""
    message = base64.b64encode(encode_request(Query(path))).decode()
    first, last = Client(find_socket(home)).stream("push", owner, lines=[message])
    return first, decode_reply(base64.b64decode(last["Reply"]))


def test_a_pusher_asks_another_nodes_daemon_and_is_let_in_when_its_owner_says_so(daemons: Daemons) -> None:
    there, here = daemons.make_home("there"), daemons.make_home("here")
    owner = daemons.start(there)
    daemons.start(here)
    pusher = Ipvcs(here).ok("id", "--json").json[0]["ID"]

    connected, denied = ask(here, owner.address, b"team", b"project")
    address, _, name = owner.address.rpartition("/p2p/")
    assert connected == {"Stage": "connected", "Address": address}
    assert isinstance(denied, Failure)
    assert denied.code is FailureCode.DENIED

    command = denied.hint.partition("`ipvcs ")[2].removesuffix("`").split()
    assert command == ["access", "add", pusher, "/team/project"]
    Ipvcs(there).ok(*command)
    _connected, standing = ask(here, name, b"team", b"project", b"deeper")  # by its id alone, as it is known by now
    assert standing == Standing(None, frozenset(("create", "update", "tag")), 1 << 30, 2_000_000)
    assert isinstance(ask(here, name, b"team")[1], Failure)


@pytest.mark.parametrize("who", ["owner", "pusher", "client"])
def test_whoever_ends_while_somebody_pushes_no_process_is_left(daemons: Daemons, who: str) -> None:
    there, here = daemons.make_home("there"), daemons.make_home("here")
    owner = daemons.start(there, module="tests.e2e.push_stub")
    pusher = daemons.start(here)
    Ipvcs(there).ok("access", "add", pusher.address.rpartition("/p2p/")[2])
    message = base64.b64encode(encode_request(OFFER)).decode()
    stream = Client(find_socket(here)).stream("push", owner.address, lines=[message])
    assert next(stream).keys() == {"Stage", "Address"}
    progress = decode_reply(base64.b64decode(next(stream)["Reply"]))
    assert isinstance(progress, Progress)
    receiver = int(progress.stage)  # which ignores SIGTERM
    if who == "client":
        stream.close()
    else:
        status, _out, errors, seconds = (owner if who == "owner" else pusher).end()
        assert (status, "Traceback" in errors) == (0, False)
        assert seconds < 5
        with pytest.raises(RemoteCommandError, match="broke off the push" if who == "owner" else "daemon is ending"):
            next(stream)
    wait_ended(receiver, patience=10)
    assert owner.process.poll() == (0 if who == "owner" else None)


def test_a_daemon_whose_owner_takes_no_pushes_says_so(daemons: Daemons) -> None:
    there, here = daemons.make_home("there"), daemons.make_home("here")
    Ipvcs(there).ok("config", "--json", "Push.Accept", "false")
    owner = daemons.start(there)
    daemons.start(here)
    with pytest.raises(RemoteCommandError, match="takes no pushes") as caught:
        ask(here, owner.address)
    assert "Push.Accept" in str(caught.value.hint)
