"""What a push leaves pinned, so that it stays here, is served, and is announced to the network within seconds.

    git <name>[/path] <number>    a list of what push `number` has published: its root, and the commits and tags that
                                  its refs point at, which lead to the objects. The list is what keeps them
                                  the root, the commits and tags, and the trees of branches and tags, so that
                                  whoever has no more than a CID finds who has it

A block has one pin, and two places may well have a commit in common: then the second takes over the pin of the first,
and drops it in its time, while the list of the first still keeps the commit. A pin of the user's stays the user's.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Final

from ipvcs.errors import IpvcsError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.objects import dag_cbor
from ipvcs.objects.block import Block
from ipvcs.objects.data_model import Value
from ipvcs.storage.home import Home
from ipvcs.storage.interface import BlockWriting
from ipvcs.storage.pins import Pin, PinMode

KEPT_ROOTS: Final = 10
"""Pushes to a place whose roots stay pinned, the last included: who is fetching an older one should be able to end."""
_PREFIX: Final = "git "
_SHOWN: Final = 100
"""Characters of a place that the names of its pins have."""
_LISTED: Final = 20_000
"""CIDs in one block of a list: under a megabyte."""


class KeptRoots:
    """The pins of one place behind one name."""

    def __init__(self, home: Home, name: PeerId, path: tuple[bytes, ...]) -> None:
        """Pin in `home` what was pushed to `path` behind `name`."""
        self._pins = home.pins
        self._place = "".join(f"/{part.decode(errors='replace')}" for part in path)
        shown = self._place
        if len(shown) > _SHOWN:  # a pin's name is for people; it has to be another one for each place all the same
            shown = f"{shown[:_SHOWN]}…{sha256(b'/'.join(path)).hexdigest()[:16]}"
        self._prefix = f"{_PREFIX}{name.to_base36()}{shown} "

    def pin(
        self,
        writer: BlockWriting,
        root: Cid,
        tips: Collection[Cid],
        trees: Collection[Cid],
        number: int,
        *,
        complete: bool,
    ) -> None:
        """Pin what push `number` has published, and is in `writer`; `complete`: all that `tips` reach is here.

        Raises:
            DiskError: nothing is pinned.
        """
        name = f"{self._prefix}{number}"
        lists = list(self._put_lists(writer, [root, *sorted(set(tips))], number))
        writer.flush()
        ours = [Pin(cid, PinMode.RECURSIVE, name, complete) for cid in lists]
        pinned = self._pins.get_many([root, *tips, *trees])
        for cid in dict.fromkeys((root, *tips)):
            before = pinned.get(cid)
            if before is None or before.name.startswith(_PREFIX):
                whole = complete if before is None else before.complete or complete
                ours.append(Pin(cid, PinMode.RECURSIVE, name, whole))
        for cid in set(trees).difference((root, *tips)):
            before = pinned.get(cid)
            if before is None or (before.mode is PinMode.DIRECT and before.name.startswith(_PREFIX)):
                ours.append(Pin(cid, PinMode.DIRECT, name))
        self._pins.add(ours)

    def _put_lists(self, writer: BlockWriting, cids: Sequence[Cid], number: int) -> Iterator[Cid]:
        for start in range(0, len(cids), _LISTED):
            listed: dict[str, Value] = {
                "place": self._place,
                "number": number,
                "kept": list(cids[start : start + _LISTED]),
            }
            block = Block.of(dag_cbor.encode(listed), codecs.DAG_CBOR)
            writer.put(block)
            yield block.cid

    def unpin_old(self) -> None:
        """Take away pins of ours that none of the last `KEPT_ROOTS` pushes to this place has renewed."""
        numbers: dict[Cid, int] = {}
        for pin in self._pins.iter_pins():
            if pin.name.startswith(self._prefix):
                with suppress(ValueError):
                    numbers[pin.cid] = int(pin.name.removeprefix(self._prefix))
        kept = set(sorted(set(numbers.values()))[-KEPT_ROOTS:])
        with suppress(IpvcsError):  # it is no failure of the push; the next one tries again
            self._pins.remove([cid for cid, number in numbers.items() if number not in kept])
