"""A name, as a push and a fetch need it: where it leads, and the change of that, if nobody else has changed it."""

from dataclasses import dataclass
from typing import Final

from ipvcs.client.client import Client, DaemonLostError, RemoteCommandError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.naming.name_store import NameStore
from ipvcs.node.naming.name_table import KnownName
from ipvcs.node.naming.succession import State, state_of
from ipvcs.storage.home import Home

LIFETIME: Final = "720h"
"""30 days, so that what was pushed outlives a publisher's holidays; a daemon renews it every four hours."""
TTL: Final = "10s"
"""How long others may cache where the name leads: a fetch after a push should see it."""
PATIENCE: Final = 10.0
"""Seconds that a push waits for the first other node to take the record (DESIGN §5)."""


@dataclass(frozen=True, slots=True)
class NameStanding:
    """Where a name leads: `path` is None when it was never published. `state` is what a change has to be based on."""

    path: str | None
    state: State | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Announcement:
    """What became of a record that this home has published."""

    takers: tuple[str, ...] = ()
    """NodeIds of those that are known to have it."""
    trouble: str = ""
    """Why nobody is."""
    hidden: bool = False
    """Whether no other machine reaches this node."""
    winner: str | None = None
    """Where somebody else with the key lets the name lead, if that is what others are told."""


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
        is_new = own is not None and NameStore(self._home.datastore).try_get(own) is None
        answer = self._client.call("name/resolve", f"/ipns/{name}", newest=True, may_be_unpublished=is_new)
        state = answer.get("State")
        warnings = tuple(answer.get("Warnings") or ())
        if not answer["Path"]:
            warnings = tuple(f"cannot find out whether another home has published '{name}': {why}" for why in warnings)
        return NameStanding(
            answer["Path"] or None, None if state is None else (state["Sequence"], state["Value"]), warnings
        )

    def own_record(self, name: PeerId) -> State | None:
        """Return what this home last published under `name`, None if nothing."""
        known = NameStore(self._home.datastore).try_get(name)
        return None if known is None or known.own is None else state_of(KnownName(known.own.record))

    def publish(self, key: str, name: PeerId, path: str, expected: State) -> Announcement | None:
        """Let `name`, of our `key`, lead to `path` if its state is `expected`; None: it is another by now.

        Returns when the first other node took the record, at once when there is none, or after `PATIENCE`.

        Raises:
            RemoteCommandError: it could not be done for another reason.
            DaemonLostError: the daemon ended before it was done.
        """
        try:
            answer = self._client.call(
                "name/publish",
                path,
                key=key,
                lifetime=LIFETIME,
                ttl=TTL,
                expect_sequence=expected[0],
                expect_value=expected[1],
                patience=f"{PATIENCE:g}s",
            )
        except (RemoteCommandError, DaemonLostError) as exc:
            if (own := self.own_record(name)) is not None and own[1] == path:  # stored: what is left can be made up for
                return Announcement(trouble=str(exc))
            if isinstance(exc, DaemonLostError) or self.newest(name.to_base36(), name).state == expected:
                raise
            return None
        rival = answer.get("Rival") or {}
        return Announcement(
            takers=tuple(answer.get("Takers") or ()),
            trouble=answer.get("Trouble") or "",
            hidden=bool(answer.get("Hidden")),
            winner=rival["Value"] if rival.get("Outranks") else None,
        )
