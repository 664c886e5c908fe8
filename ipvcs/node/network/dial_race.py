"""One dial to one peer: its addresses race each other, and the first connection that stands wins.

The plan (pure) says what to start when; here is one task for each attempt and for each name that is being resolved.
Whatever ends the race (a winner, the deadline, nobody waiting any more) cancels the rest, and a loser that stands all
the same is closed again.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network.addresses import needs_resolution
from ipvcs.node.network.dial_plan import MAX_ADDRS, DialPlan
from ipvcs.node.network.interface import Connection

ADDRESS_TIMEOUT: Final = 5.0
"""Seconds for one address, from the first packet to a multiplexed connection, or for one name. As in go-libp2p's
DialTimeoutLocal; half a world away a TCP connect and three round trips take less than two."""
_CLOSE_TIMEOUT: Final = 2.0
"""Seconds to say goodbye to somebody we dialled in vain."""

NETWORK_ERRORS: Final = (
    IpvcsError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream
)  # fmt: skip
"""What a dial may fail with for reasons that lie outside of this program."""


class Resolver(Protocol):
    """Turns names into addresses."""

    async def resolve(self, addr: Multiaddr) -> list[Multiaddr]:
        """Return the addresses that `addr`, which starts with a DNS name, stands for. Raises UnavailableError."""


class DialRace:
    """The race to one peer. Run it once; afterwards `failures` says what became of the losers."""

    def __init__(
        self,
        *,
        plan: DialPlan,
        resolver: Resolver,
        select: Callable[[Iterable[Multiaddr]], list[Multiaddr]],
        dial: Callable[[Multiaddr], Awaitable[Connection]],
        slots: anyio.CapacityLimiter,
        on_won: Callable[[Connection], None],
        address_timeout: float = ADDRESS_TIMEOUT,
    ) -> None:
        """Prepare a race.

        Args:
            plan: an empty plan.
            resolver: for the names among the addresses.
            select: returns those of some resolved addresses that are to be dialled.
            dial: makes a connection to one of them.
            slots: one for each dial of this node that is under way.
            on_won: takes the first connection that stands, before the losers are gone. What it raises makes the
                connection one more that failed.
            address_timeout: seconds for each dial, and for each name.
        """
        self._plan = plan
        self._resolver = resolver
        self._select = select
        self._dial = dial
        self._slots = slots
        self._on_won = on_won
        self._address_timeout = address_timeout
        self._new: list[Multiaddr] = []
        self._names: set[Multiaddr] = set()
        self._names_left = 0
        self._over = False
        self._won = False
        self._changed = anyio.Event()
        self.failures: dict[Multiaddr, str] = {}
        """Why each address or name that was tried did not work."""
        self.silent_or_refused: set[Multiaddr] = set()
        """Those of them whose fault it was: not worth a retry soon."""

    @property
    def is_won(self) -> bool:
        """Whether a connection stands."""
        return self._won

    def add(self, addrs: Iterable[Multiaddr]) -> bool:
        """Let `addrs` race, too. False when the race is over."""
        if self._over:
            return False
        self._new += addrs
        self._changed.set()
        return True

    async def run(self, timeout: float) -> None:
        """Dial what was and is added until one connection stands, none is left, or `timeout` seconds have passed."""
        with anyio.move_on_after(timeout) as limit:
            async with anyio.create_task_group() as tasks:
                try:
                    await self._start_dials(tasks)
                finally:
                    self._over = True
                tasks.cancel_scope.cancel()
        if limit.cancelled_caught:
            for addr in self._plan.in_flight:
                self.failures[addr] = f"no answer before the {timeout:g} s for all addresses were over"
            for addr in self._plan.waiting:
                self.failures[addr] = f"not tried before the {timeout:g} s for all addresses were over"

    async def _start_dials(self, tasks: TaskGroup) -> None:
        while not self._won and (self._new or self._names_left or not self._plan.is_done):
            self._take_new(tasks)
            while (addr := self._plan.next_dial(anyio.current_time())) is not None:
                tasks.start_soon(self._attempt, addr)
            if self._plan.is_done and not self._names_left:
                continue  # nothing was worth a dial
            self._changed = anyio.Event()
            due = self._plan.next_deadline()
            with anyio.CancelScope(deadline=float("inf") if due is None else due):
                await self._changed.wait()

    def _take_new(self, tasks: TaskGroup) -> None:
        new, self._new = self._new, []
        self._plan.add(self._select(addr for addr in new if not needs_resolution(addr)))
        for name in dict.fromkeys(addr for addr in new if needs_resolution(addr)):
            if name not in self._names and len(self._names) < MAX_ADDRS:
                self._names.add(name)
                self._names_left += 1
                tasks.start_soon(self._resolve, name)

    async def _resolve(self, name: Multiaddr) -> None:
        try:
            with anyio.move_on_after(self._address_timeout) as limit:
                found = self._select(await self._resolver.resolve(name))
                self._plan.add(found)
                if not found:
                    self.failures[name] = "stands for no address that can be dialled"
            if limit.cancelled_caught:
                self.failures[name] = f"not resolved within {self._address_timeout:g} s"
        except NETWORK_ERRORS as exc:
            self.failures[name] = _reason(exc)
        self._names_left -= 1
        self._changed.set()

    async def _attempt(self, addr: Multiaddr) -> None:
        reason = ""
        async with self._slots:
            try:
                with anyio.move_on_after(self._address_timeout) as limit:
                    connection = await self._dial(addr)
            except NETWORK_ERRORS as exc:
                reason = _reason(exc)
            else:
                if not limit.cancelled_caught:
                    reason = await self._stand(connection)
                    if not reason:
                        return
                    self._lose(addr, reason)
                    return
                reason = f"no answer within {self._address_timeout:g} s"
        self.silent_or_refused.add(addr)
        self._lose(addr, reason)

    async def _stand(self, connection: Connection) -> str:
        """Let `connection` win, or end it; return why it may not stay, if so."""
        reason = ""
        if not self._won:
            try:
                self._on_won(connection)
            except IpvcsError as exc:
                reason = str(exc)
            else:
                self._won = True
                self._changed.set()
                return ""
        with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
            await connection.aclose()
        return reason or "another address was faster"

    def _lose(self, addr: Multiaddr, reason: str) -> None:
        self.failures[addr] = reason
        self._plan.handle_failure(addr, anyio.current_time())
        self._changed.set()


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
