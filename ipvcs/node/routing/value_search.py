"""What a search for a value has found: the best so far, and who has that one and who an older one. Pure."""

from collections.abc import Iterable

from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.interface import InvalidValueError, Validator
from ipvcs.node.routing.kad_message import MAX_REQUEST, Record


class ValueSearch:
    """Judges values as they come. However many peers answer, one value is held."""

    def __init__(self, key: bytes, validator: Validator, quorum: int = 0) -> None:
        self._key = key
        self._validator = validator
        self._quorum = quorum
        self._current: list[PeerInfo] = []
        self._outdated: list[PeerInfo] = []
        self.best: bytes | None = None
        """The best valid value so far."""

    def offer(self, record: Record | None, holder: PeerInfo | None, now: float) -> bytes | None:
        """Look at what `holder` (None: we ourselves) has, and return it if it is better than all before.

        What is not valid under our key counts for nothing, whatever key it says it is under.
        """
        if record is None or record.key != self._key or len(record.value) > MAX_REQUEST:
            return None
        value = record.value
        if value == self.best:
            self._note(holder)
            return None
        try:
            self._validator.validate(self._key, value, now)
        except InvalidValueError:
            return None
        if self.best is not None and self._validator.select(self._key, [self.best, value]) != 1:
            if holder is not None:
                self._outdated.append(holder)
            return None
        self._outdated += self._current
        self._current = []
        self._note(holder)
        self.best = value
        return value

    @property
    def is_finished(self) -> bool:
        """Whether as many peers as asked for have answered with a valid value."""
        return bool(self._quorum) and len(self._current) + len(self._outdated) >= self._quorum

    def outdated(self) -> Iterable[PeerInfo]:
        """Return who has a valid value that is not the best."""
        return tuple(self._outdated)

    def _note(self, holder: PeerInfo | None) -> None:
        if holder is not None:
            self._current.append(holder)
