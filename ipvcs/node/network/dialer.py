"""Whom to dial and where: one dial a peer however many want it, addresses chosen, failures remembered and told.

    connect ─┬─► a dial to that peer is under way: wait for it, too
             └─► none: collect addresses, leave out what is pointless or forbidden, race the rest (`dial_race`)

A dial belongs to nobody who waits for it: it runs as a task of the swarm, and ends early only when all have gone.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.addresses import Scope, needs_resolution, scope_of, without_peer
from ipvcs.node.network.backoff import Backoff
from ipvcs.node.network.connection_table import ConnectionTable, Gater
from ipvcs.node.network.dial_plan import DialPlan
from ipvcs.node.network.dial_race import ADDRESS_TIMEOUT, DialRace, Resolver
from ipvcs.node.network.errors import DialError, GatedError
from ipvcs.node.network.interface import Connection, ConnectionOwner, PeerInfo, Transport

_log = logging.getLogger(__name__)

DIAL_TIMEOUT: Final = 15.0
"""Seconds for all addresses of one peer. A second batch of eight still gets its five."""
MAX_DIALS: Final = 160
"""Dials of the whole node under way at once; as go-libp2p's limit on file descriptors for dialling."""
_SHOWN: Final = 5
"""Addresses that an error's message tells of; `attempts` has all."""


class KnownAddresses(Protocol):
    """The address book, as far as dialling needs it."""

    def addrs(self, peer_id: PeerId) -> Sequence[Multiaddr]:
        """Return where `peer_id` may be reached, best first, without its `/p2p`."""


@dataclass(slots=True)
class DialSettings:
    """What the dialer works with."""

    peer_id: PeerId
    """Ours."""
    transports: Sequence[Transport]
    owner: ConnectionOwner
    table: ConnectionTable
    known: KnownAddresses
    resolver: Resolver
    gater: Gater
    own_addrs: Callable[[], Collection[Multiaddr]]
    """Where we listen: dialling there would only find ourselves."""
    order: Callable[[Iterable[Multiaddr]], list[Multiaddr]]
    """Puts addresses in the order of preference."""
    timeout: float = DIAL_TIMEOUT
    address_timeout: float = ADDRESS_TIMEOUT
    max_dials: int = MAX_DIALS
    backoff: Backoff = field(default_factory=Backoff)


class Dialer:
    """Makes outbound connections for a swarm; its tasks run in the swarm's task group."""

    def __init__(self, settings: DialSettings, tasks: TaskGroup) -> None:
        self._settings = settings
        self._tasks = tasks
        self._slots = anyio.CapacityLimiter(settings.max_dials)
        self._dials: dict[PeerId, _Dial] = {}
        self._running: set[_Dial] = set()
        self._open = True

    async def dial(self, peer: PeerInfo, *, force: bool = False, timeout: float | None = None) -> Connection:
        """Return a new connection to `peer`, at the addresses given or known.

        Who comes while a dial to the peer is under way adds his addresses to that one and gets its connection.

        Args:
            peer: whom, and where besides the addresses known.
            force: dial what failed a moment ago, too.
            timeout: seconds for all addresses; None: as configured. No address gets more than its own time-out.

        Raises:
            DialError: no address worked; it tells each and why.
            GatedError: the node's rules are against the peer or against each of its addresses.
            ConnectionLimitError: too many connections stand.
        """
        settings = self._settings
        if peer.peer_id == settings.peer_id:
            raise DialError(f"cannot connect to '{peer.peer_id}': it is this very node")
        settings.table.check_peer(peer.peer_id)
        settings.table.check_room()
        while True:
            if (dial := self._dials.get(peer.peer_id)) is None:
                addrs = dict.fromkeys((*peer.addrs, *settings.known.addrs(peer.peer_id)))
                return await self._start(peer.peer_id, tuple(addrs), force=force, timeout=timeout).wait()
            joined = dial.join(peer.addrs, force=force)
            try:
                return await dial.wait()
            except DialError:
                if joined:
                    raise

    def aclose(self) -> None:
        """End every dial; who waits hears a DialError."""
        self._open = False
        for dial in self._running:
            dial.scope.cancel()

    def _start(self, peer_id: PeerId, addrs: tuple[Multiaddr, ...], *, force: bool, timeout: float | None) -> "_Dial":
        if not self._open:
            raise DialError(f"cannot connect to '{peer_id}': this node is shutting down")
        dial = _Dial(peer_id, force=force, timeout=self._settings.timeout if timeout is None else timeout)
        choice = _Choice(self._settings, dial)

        def won(connection: Connection) -> None:
            self._settings.table.admit(connection)
            self._settings.backoff.handle_success(connection.remote_peer, connection.remote_addr)
            self._forget(dial)
            dial.settle(connection)

        dial.race = DialRace(
            plan=DialPlan(order=self._settings.order),
            resolver=self._settings.resolver,
            select=choice.select,
            dial=choice.dial,
            slots=self._slots,
            on_won=won,
            address_timeout=self._settings.address_timeout,
        )
        dial.on_abandoned = partial(self._forget, dial)
        dial.join(addrs, force=force)
        self._dials[peer_id] = dial
        self._running.add(dial)
        self._tasks.start_soon(self._run, dial, choice, name=f"dial {peer_id}")
        return dial

    async def _run(self, dial: "_Dial", choice: "_Choice") -> None:
        try:
            with dial.scope:
                await dial.race.run(dial.timeout)
            if not dial.scope.cancelled_caught and not dial.race.is_won:
                self._lose(dial, choice)
        except Exception as exc:  # a bug, in a transport perhaps: whoever waits shows it, the node goes on
            _log.debug("a dial failed by a bug", exc_info=exc)
            dial.settle(exc)
        finally:
            self._running.discard(dial)
            self._forget(dial)
            self._remember(dial)
            dial.settle(DialError(f"cannot connect to '{dial.peer_id}': this node is shutting down"))  # if nothing else

    def _forget(self, dial: "_Dial") -> None:
        """Whoever comes from now on gets a dial of his own."""
        if self._dials.get(dial.peer_id) is dial:
            del self._dials[dial.peer_id]

    def _lose(self, dial: "_Dial", choice: "_Choice") -> None:
        """Tell why, unless the peer has reached us in the meantime."""
        dial.settle(self._settings.table.oldest(dial.peer_id) or _explain(dial, choice))

    def _remember(self, dial: "_Dial") -> None:
        """Note the addresses not to dial again soon."""
        for addr in dial.race.silent_or_refused:
            self._settings.backoff.handle_failure(dial.peer_id, addr, anyio.current_time())


class _Dial:
    """A dial under way, and who waits for it."""

    race: DialRace

    def __init__(self, peer_id: PeerId, *, force: bool, timeout: float) -> None:
        self.peer_id = peer_id
        self.force = force
        self.timeout = timeout
        self.scope = anyio.CancelScope()
        self.on_abandoned: Callable[[], None] = lambda: None
        self._addrs: list[Multiaddr] = []
        self._waiters = 0
        self._done = anyio.Event()
        self._outcome: Connection | Exception | None = None

    def join(self, addrs: Iterable[Multiaddr], *, force: bool) -> bool:
        """Dial `addrs`, too, and with `force` what was left out before. False when it is too late for that."""
        self._addrs += (addr for addr in addrs if addr not in self._addrs)
        again = force and not self.force
        self.force |= force
        return self.race.add(self._addrs if again else addrs)

    async def wait(self) -> Connection:
        """Return the connection. Cancelling ends the dial only if nobody else waits."""
        self._waiters += 1
        try:
            await self._done.wait()
        finally:
            self._waiters -= 1
            if not self._waiters and not self._done.is_set():
                self.on_abandoned()
                self.scope.cancel()
        assert self._outcome is not None
        if isinstance(self._outcome, Exception):
            raise self._outcome
        if self._outcome.is_closed:
            raise DialError(f"cannot connect to '{self.peer_id}': the peer ended the connection at once")
        return self._outcome

    def settle(self, outcome: Connection | Exception) -> None:
        """Let every waiter return or raise `outcome`. Only the first one counts."""
        if not self._done.is_set():
            self._outcome = outcome
            self._done.set()


class _Choice:
    """Which addresses of one peer are worth a dial, and how to dial one; it notes why others are left out."""

    def __init__(self, settings: DialSettings, dial: _Dial) -> None:
        self._settings = settings
        self._dial = dial
        self.left_out: dict[Multiaddr, str] = {}
        self.gated: set[Multiaddr] = set()
        self.next_try: float | None = None
        """Seconds until the first address that failed lately may be dialled again."""

    def select(self, addrs: Iterable[Multiaddr]) -> list[Multiaddr]:
        """Return those of `addrs` to dial, without the peer's own `/p2p`."""
        own = self._settings.own_addrs()
        chosen = []
        for addr in addrs:
            bare = without_peer(addr, self._dial.peer_id)
            if bare is None:
                self.left_out[addr] = "it leads to another peer"
            elif (reason := self._reason_against(bare, own)) is not None:
                self.left_out[bare] = reason
            else:
                chosen.append(bare)
        return chosen

    async def dial(self, addr: Multiaddr) -> Connection:
        """Connect to `addr`, one of those selected."""
        transport = next(each for each in self._settings.transports if each.can_dial(addr))
        return await transport.dial(addr, self._dial.peer_id, self._settings.owner)

    def _reason_against(self, addr: Multiaddr, own: Collection[Multiaddr]) -> str | None:
        settings, peer_id = self._settings, self._dial.peer_id
        if needs_resolution(addr):
            return "it is a name that stands for another name"
        if not any(transport.can_dial(addr) for transport in settings.transports):
            return "no transport for this kind of address"
        if scope_of(addr) in (Scope.WILDCARD, Scope.UNROUTABLE):
            return "it is not the address of a host"
        if addr in own:
            return "it is where this very node listens"
        if (reason := settings.gater.why_not_dial(peer_id, addr)) is not None:
            self.gated.add(addr)
            return f"not allowed: {reason}"
        if not self._dial.force:
            wait = settings.backoff.wait(peer_id, addr, anyio.current_time())
            if wait > 0:
                self.next_try = wait if self.next_try is None else min(wait, self.next_try)
                return f"it failed lately and is not dialled again for {max(wait, 1):.0f} s"
        return None


def _explain(dial: _Dial, choice: _Choice) -> DialError | GatedError:
    """Return the error that tells why `dial` did not work out, and what to try."""
    failures = dial.race.failures
    left_out = {addr: reason for addr, reason in choice.left_out.items() if addr not in failures}
    if choice.gated and not failures and len(choice.gated) == len(left_out):
        reasons = "; ".join(dict.fromkeys(left_out.values()))
        return GatedError(f"cannot connect to '{dial.peer_id}': {reasons}")
    attempts = [*failures.items(), *left_out.items()]
    if not attempts:
        return DialError(
            f"cannot connect to '{dial.peer_id}': no address of it is known",
            hint=f"give one, as in '/ip4/192.0.2.1/tcp/4001/p2p/{dial.peer_id}'",
        )
    if failures:
        hint = "is the peer running, and can its addresses be reached from here?"
    elif choice.next_try is not None:
        hint = f"try again in {max(choice.next_try, 1):.0f} s"
    else:
        hint = "ask the peer for an address that this node can dial"
    told = "; ".join(f"'{addr}': {reason}" for addr, reason in attempts[:_SHOWN])
    if len(attempts) > _SHOWN:
        told += f"; and {len(attempts) - _SHOWN} more"
    return DialError(f"cannot connect to '{dial.peer_id}': {told}", attempts, hint=hint)
