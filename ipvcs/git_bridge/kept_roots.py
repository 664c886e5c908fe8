"""What a push leaves pinned, so that it stays here, is served, and is announced to the network within seconds.

    git <name>[/path] <number>      the root; the commits and tags that its refs point at, which keep the objects; and,
                                    by itself, each tree that a branch or tag leads to, which a commit keeps already,
                                    so that whoever has no more than its CID finds who has it

A pin of the user's on any of them stays the user's.
"""

from collections.abc import Collection
from contextlib import suppress
from typing import Final

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.storage.home import Home
from ipvcs.storage.pins import Pin, PinMode

KEPT_ROOTS: Final = 10
"""Roots of a name that stay pinned, the newest included: who is fetching an older one should be able to end."""
_PREFIX: Final = "git "


class KeptRoots:
    """The pins of one place behind one name."""

    def __init__(self, home: Home, name: PeerId, path: tuple[bytes, ...]) -> None:
        """Pin in `home` what was pushed to `path` behind `name`."""
        self._pins = home.pins
        place = "".join(f"/{part.decode(errors='replace')}" for part in path)
        self._prefix = f"{_PREFIX}{name.to_base36()}{place[:100]} "

    def pin(self, root: Cid, tips: Collection[Cid], trees: Collection[Cid], number: int, *, complete: bool) -> None:
        """Pin what push `number` has published; `complete` tells whether all that `tips` reach is here.

        Raises:
            DiskError: nothing is pinned.
        """
        name = f"{self._prefix}{number}"
        ours: list[Pin] = []
        pinned = self._pins.get_many([root, *tips, *trees])
        for cid in dict.fromkeys((root, *tips)):
            before = pinned.get(cid)
            if before is not None and before.mode is PinMode.RECURSIVE and not before.name.startswith(_PREFIX):
                continue  # somebody's own, which keeps it as well
            whole = complete if before is None else before.complete or complete
            ours.append(Pin(cid, PinMode.RECURSIVE, name, whole))
        for cid in set(trees).difference((root, *tips)):
            before = pinned.get(cid)
            if before is None or (before.mode is PinMode.DIRECT and before.name.startswith(_PREFIX)):
                ours.append(Pin(cid, PinMode.DIRECT, name))
        self._pins.add(ours)

    def unpin_old(self, number: int) -> None:
        """Take away pins of ours that no root among the last `KEPT_ROOTS` before push `number` has renewed."""
        old = []
        for pin in self._pins.iter_pins():
            if pin.name.startswith(self._prefix):
                with suppress(ValueError):
                    if int(pin.name.removeprefix(self._prefix)) <= number - KEPT_ROOTS:
                        old.append(pin.cid)
        with suppress(IpvcsError):  # it is no failure of the push; the next one tries again
            self._pins.remove(old)
