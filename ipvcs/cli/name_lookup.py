"""Where a name in a path leads: asked of the home's node, or read in the home where the name is its own."""

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ipvcs.cli.app import App
from ipvcs.errors import IpvcsError, LimitError, UnavailableError

if TYPE_CHECKING:
    from ipvcs.client.client import Client
    from ipvcs.multiformats.peer_id import PeerId

_MAX_NAMES: Final = 32
"""Names that one path leads through. As in the resolver of the node."""
_JOINING: Final = 10.0
"""Seconds for which a node that was just started may meet somebody to ask: as long as a fetch waits for that."""
_LOOK: Final = 0.1
"""Seconds between looks whether it has."""


class NameOfflineError(UnavailableError):
    """A name is not one of this home's, and the network is not asked."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot resolve '/ipns/{name}': it is not published by this home, and {reason}")
        self.name = name


def resolve_name(app: App, name: str) -> str:
    """Return the path `/ipfs/…` that `/ipns/<name>` leads to.

    Raises:
        NameOfflineError: nobody can be asked.
        RemoteCommandError: the node could not find out, and says why.
        LimitError: over `_MAX_NAMES` names lead to each other.
    """
    from ipvcs.client.socket_path import DaemonNotRunningError

    try:
        if app.offline:
            return _resolve_own(app, name, "nobody is asked with --offline")
        client = app.client(start=False)
    except DaemonNotRunningError:
        daemon = app.command_line("daemon")
        reason = f"no daemon runs that could look it up: `{daemon}` starts one"
        try:
            return _resolve_own(app, name, reason)
        except IpvcsError:  # none of ours, or expired, and then the node renews it
            if not app.home.config.get("Bootstrap"):
                raise
        client = app.client()
        _wait_joined(client, min(_JOINING, app.fetch_timeout or _JOINING))
    answer = client.call("name/resolve", f"/ipns/{name}")
    for warning in answer.get("Warnings") or []:
        app.ui.warn(warning)
    path: str = answer["Path"]
    return path


def _wait_joined(client: "Client", patience: float) -> None:
    """Wait until the routing tables of a node that was just started have a peer; if it asks nobody, not at all."""
    deadline = time.monotonic() + patience
    while tables := list(client.stream("stats/dht")):
        if any(bucket["Peers"] for table in tables for bucket in table["Buckets"]) or time.monotonic() > deadline:
            return
        time.sleep(_LOOK)


def _resolve_own(app: App, name: str, reason: str) -> str:
    """Follow names that this home publishes, until a path is no name's."""
    rest = ""
    for _ in range(_MAX_NAMES):
        value = _own_value(app, name)
        if value is None:
            raise NameOfflineError(name, reason)
        path = value.rstrip("/") + rest
        if not path.startswith("/ipns/"):
            return path
        name, slash, below = path.removeprefix("/ipns/").partition("/")
        rest = slash + below
    raise LimitError(f"'/ipns/{name}' leads through over {_MAX_NAMES} names")


def _own_value(app: App, name: str) -> str | None:
    """Return what the best record of `name`, a key's name or NodeId, says; None: the home does not publish it.

    The best is another's if somebody has published since, with the same key elsewhere: never back to an older one.
    """
    from ipvcs.node.naming.name_store import NameStore

    peer_id = _peer_id(app, name)
    known = None if peer_id is None else NameStore(app.home.datastore).try_get(peer_id)
    if peer_id is None or known is None or known.own is None:
        return None
    record = known.best
    record.verify(peer_id)
    record.check_validity(time.time())
    return record.path


def _peer_id(app: App, name: str) -> "PeerId | None":
    from ipvcs.multiformats.peer_id import PeerId, PeerIdError

    with suppress(IpvcsError):  # no key is called so, or it is no name for a key
        return app.keystore.find(name).public_key.peer_id
    with suppress(PeerIdError):
        return PeerId.parse(name)
    return None
