"""The keys that this node publishes with: its own, and those of the home's keystore that can be opened.

Looking a key up reads the disk and may wait for another process's lock: run it in a thread.
"""

from collections.abc import Mapping
from typing import Protocol

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.identity.keystore import SELF, KeyNotFoundError, Keystore


class OwnKeys(Protocol):
    """What naming asks of a keystore."""

    def get(self, name: str) -> PrivateKey:
        """Return the key that the user calls `name`, or whose NodeId `name` is.

        Raises:
            KeyNotFoundError: there is none. WrongPassphraseError and the like: it can't be opened.
        """

    def find(self, peer_id: PeerId) -> PrivateKey | None:
        """Return the key of `peer_id`; None if it is not ours, or can't be opened now."""

    def names(self) -> Mapping[str, PeerId]:
        """Return what the user calls our keys, and whose they are; no passphrase is asked for."""


class KeystoreKeys:
    """The node's own key, which is open already, and a keystore."""

    def __init__(self, node_key: PrivateKey, keystore: Keystore) -> None:
        """Take `node_key` for `self`; `keystore` must ask nobody at a terminal for a passphrase."""
        self._node_key = node_key
        self._keystore = keystore

    def get(self, name: str) -> PrivateKey:
        """See `OwnKeys`."""
        if name == SELF:
            return self._node_key
        try:
            return self._keystore.get(name)
        except KeyNotFoundError:
            wanted = _parse(name)
            if wanted == self._node_key.peer_id:
                return self._node_key
            for known, peer_id in self.names().items():
                if peer_id == wanted:
                    return self._keystore.get(known)
            raise

    def find(self, peer_id: PeerId) -> PrivateKey | None:
        """See `OwnKeys`."""
        if peer_id == self._node_key.peer_id:
            return self._node_key
        try:
            return next((self._keystore.get(name) for name, each in self.names().items() if each == peer_id), None)
        except IpvcsError:  # a passphrase that we don't have, or a key removed just now
            return None

    def names(self) -> Mapping[str, PeerId]:
        """See `OwnKeys`. Damaged keys are left out: `ipvcs key list` tells of them."""
        found = {SELF: self._node_key.peer_id}
        for name in self._keystore.names():
            if name == SELF:
                continue
            try:
                found[name] = self._keystore.find(name).public_key.peer_id
            except IpvcsError:
                continue
        return found


def _parse(text: str) -> PeerId | None:
    try:
        return PeerId.parse(text)
    except IpvcsError:
        return None
