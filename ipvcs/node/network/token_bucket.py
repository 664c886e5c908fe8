"""A token bucket: a burst at once, and then so much a second. Pure: the time is an argument."""


class TokenBucket:
    """Holds up to `burst` tokens and gains `per_second`; starts full."""

    __slots__ = ("_burst", "_last", "_per_second", "_tokens")

    def __init__(self, burst: float, per_second: float, now: float) -> None:
        assert burst >= 1
        self._burst = self._tokens = float(burst)
        self._per_second = per_second
        self._last = now

    def take(self, now: float, count: float = 1.0) -> bool:
        """Take `count` tokens, if there are as many."""
        if now > self._last:
            self._tokens = min(self._burst, self._tokens + (now - self._last) * self._per_second)
            self._last = now
        if self._tokens < count:
            return False
        self._tokens -= count
        return True
