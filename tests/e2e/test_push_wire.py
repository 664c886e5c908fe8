"""Two daemons, one of which asks to push to the other: the way there and back, and who is let in."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipvcs.client.client import Client, RemoteCommandError
from ipvcs.client.socket_path import find_socket
from ipvcs.git_bridge.push_replies import Failure, FailureCode, Reply, Standing, decode_reply
from ipvcs.git_bridge.push_requests import Query, encode_request
from tests.cli_runner import Ipvcs
from tests.e2e.daemons import Daemons

pytestmark = pytest.mark.network


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


def test_a_daemon_whose_owner_takes_no_pushes_says_so(daemons: Daemons) -> None:
    there, here = daemons.make_home("there"), daemons.make_home("here")
    Ipvcs(there).ok("config", "--json", "Push.Accept", "false")
    owner = daemons.start(there)
    daemons.start(here)
    with pytest.raises(RemoteCommandError, match="takes no pushes") as caught:
        ask(here, owner.address)
    assert "Push.Accept" in str(caught.value.hint)
