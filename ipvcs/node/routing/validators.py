"""Whose rules a key's value is held against, by the key's namespace, and the rules of `/pk/`.

A key is `/<namespace>/<binary>`; here only `/pk/` and, by rules that the naming chapter passes in, `/ipns/` have a
meaning. Every other namespace is refused: what nobody can check, anybody could fill us with.

Spec: https://specs.ipfs.tech/routing/kad-dht/#value-storage-and-retrieval
"""

from collections.abc import Mapping, Sequence
from typing import Final

from ipvcs.errors import DecodeError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PublicKey
from ipvcs.node.routing.interface import InvalidValueError, Validator

PUBLIC_KEY: Final = b"pk"
"""The namespace of public keys, by the peer ids made of them."""
_SHOWN: Final = 40
"""Bytes of a stranger's key that an error quotes."""


class UnknownNamespaceError(InvalidValueError):
    """No rules are known for the namespace of a key."""

    def __init__(self, key: bytes) -> None:
        super().__init__(f"key {key[:_SHOWN]!r} is in no namespace that has rules here")
        self.key = key


class Validators:
    """The rules of all namespaces as those of one: a `Validator` that asks the one that a key's namespace has."""

    def __init__(self, by_namespace: Mapping[bytes, Validator]) -> None:
        assert all(name and b"/" not in name for name in by_namespace)
        self._by_namespace = dict(by_namespace)

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """Raise UnknownNamespaceError, or what the namespace's own rules do: always an InvalidValueError."""
        self._rules(key).validate(key, value, now)

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        """Return the index of the best of `values`, by the namespace's rules. Raises UnknownNamespaceError."""
        return self._rules(key).select(key, values)

    def _rules(self, key: bytes) -> Validator:
        start, namespace, name = [*key.split(b"/", 2), b"", b""][:3]  # the binary part may hold slashes
        rules = self._by_namespace.get(namespace)
        if start or not name or rules is None:
            raise UnknownNamespaceError(key)
        return rules


class PublicKeyValidator:
    """`/pk/` and a peer id's bytes: the value is the public key that the id is made of, so there is only one."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """Raise InvalidValueError unless `value` is a key that we can use, and its id the one in `key`."""
        del now  # keys do not expire
        prefix = b"/" + PUBLIC_KEY + b"/"
        if not key.startswith(prefix):
            raise UnknownNamespaceError(key)
        try:
            peer_id = PeerId.decode(key.removeprefix(prefix))
            public_key = PublicKey.decode(value)
        except DecodeError as exc:
            raise InvalidValueError(f"no public key under {key[:_SHOWN]!r}: {exc}") from exc
        if public_key.peer_id != peer_id:
            raise InvalidValueError(f"public key of '{public_key.peer_id}' under the id of '{peer_id}'")

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        """Return 0: all valid ones are equal."""
        del key, values
        return 0
