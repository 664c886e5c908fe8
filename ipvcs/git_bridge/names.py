"""A name, as a push and a fetch need it: where it leads, and the change of that, if nobody else has changed it."""

from dataclasses import dataclass
from typing import Final

from ipvcs.client.client import Client, RemoteCommandError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.naming.name_store import NameStore
from ipvcs.node.naming.succession import UNPUBLISHED, State, state_of
from ipvcs.storage.home import Home

LIFETIME: Final = "720h"
"""30 days, so that what was pushed outlives a publisher's holidays; a daemon renews it every four hours."""
TTL: Final = "10s"
"""How long others may cache where the name leads: a fetch after a push should see it."""


@dataclass(frozen=True, slots=True)
class NameStanding:
    """Where a name leads: `path` is None when it was never published. `state` is what a change has to be based on."""

    path: str | None
    state: State | None
    warnings: tuple[str, ...] = ()


class Names:
    """Names, by the home's node."""

    def __init__(self, home: Home, client: Client) -> None:
        self._home = home
        self._client = client

    def newest(self, name: str, own: PeerId | None = None) -> NameStanding:
        """Ask the network for a few seconds where `name` leads; what was seen before will do if it says nothing.

        Args:
            name: a NodeId, a key of ours, or a domain.
            own: the NodeId if the key is ours: then it may never have been published.

        Raises:
            RemoteCommandError: it leads nowhere, or nobody could be asked.
        """
        try:
            answer = self._client.call("name/resolve", f"/ipns/{name}", newest=True)
        except RemoteCommandError:
            if own is None or NameStore(self._home.datastore).try_get(own) is not None:
                raise
            return NameStanding(None, UNPUBLISHED)
        state = answer.get("State")
        return NameStanding(
            answer["Path"],
            None if state is None else (state["Sequence"], state["Value"]),
            tuple(answer.get("Warnings") or ()),
        )

    def publish(self, key: str, name: PeerId, path: str, expected: State) -> bool:
        """Let `name`, of our `key`, lead to `path` if its state is `expected`; False: it is another by now.

        Raises:
            RemoteCommandError: it could not be done for another reason.
        """
        try:
            self._client.call(
                "name/publish",
                path,
                key=key,
                lifetime=LIFETIME,
                ttl=TTL,
                expect_sequence=expected[0],
                expect_value=expected[1],
                allow_offline=True,
            )
        except RemoteCommandError:
            found = state_of(NameStore(self._home.datastore).try_get(name))
            if found[1] == path:  # stored, and not announced for some reason: the daemon goes on trying
                return True
            if found != expected:
                return False
            raise
        return True
