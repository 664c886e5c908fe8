"""Questions to DNS servers, with dnspython: the one file that imports it, and only when a name is asked for.

The library takes 0.2 s to import; most nodes dial IP addresses only. It checks that an answer comes from where the
question went, has its id and repeats it, and goes on listening when one does not (RFC 5452); when an answer is
truncated it asks again over TCP.

Literal IP addresses, `localhost` (RFC 6761, section 6.3) and the names in the hosts file are answered here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from ipvcs.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver
    from dns.resolver import Answer as DnsAnswer

QueryType: TypeAlias = Literal["A", "AAAA", "TXT"]

MAX_RECORDS: Final = 64
"""Records looked at in one answer; one of 64 KiB may have thousands."""
MAX_TEXT: Final = 1024
"""Bytes of a TXT record that is looked at; an address, which is all we read from one, has a tenth of that."""
LOOKUP_TIMEOUT: Final = 4.0
"""Seconds for one question, all servers and retries together."""
NEGATIVE_TTL: Final = 30.0
"""Seconds that the absence of a name or record counts; names that were just made should work soon."""
_HOSTS_FILE: Final = Path("/etc/hosts")
_HOSTS_TTL: Final = 5.0
"""Seconds that what is answered here counts; an edit of the file should show soon."""
_MAX_HOSTS_FILE: Final = 1024 * 1024
"""Bytes; block lists are kept in it, too. What lies behind is not seen."""
_LOCALHOST: Final = {"A": "127.0.0.1", "AAAA": "::1"}


class DnsError(UnavailableError):
    """A DNS question got no answer. That a name does not exist is an answer."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot look up '{name}': {reason}", hint="check the name and this machine's DNS settings")
        self.name = name
        self.reason = reason


class NameserverError(UsageError):
    """Not the address of a DNS server."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"'{text}' is not the address of a DNS server", hint="write it as '192.0.2.1', '192.0.2.1:53' or '[::1]:53'"
        )
        self.text = text


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question got: IP addresses or texts, none if there is no such name or record; valid for `ttl` seconds."""

    values: tuple[str, ...]
    ttl: float


class Lookup(Protocol):
    """Asks one question."""

    async def __call__(self, name: str, query_type: QueryType) -> Answer:
        """Return the answer. It takes a bounded time; cancelling leaves nothing behind.

        Raises:
            DnsError: no server answered, or none usefully, or `name` can't be asked for.
        """


class DnsClient:
    """Asks the DNS servers that the machine is configured for, or others.

    The system's settings are read for each question: a laptop that moves to another network keeps its daemon.
    """

    def __init__(self, nameservers: Sequence[str] = (), *, hosts_file: Path = _HOSTS_FILE) -> None:
        """Use `nameservers`, each an IP address with maybe a port, in this order; none: the system's.

        Raises:
            NameserverError: one is not that.
        """
        self._nameservers = [parse_nameserver(text) for text in nameservers]
        self._hosts_file = hosts_file

    async def __call__(self, name: str, query_type: QueryType) -> Answer:
        """See `Lookup`."""
        if query_type != "TXT" and (local := self._answer_here(name, query_type)) is not None:
            return local
        # Imported here, see above.
        import dns.asyncbackend
        import dns.exception
        import dns.name
        import dns.resolver

        try:
            resolver = self._make_resolver()
            answer = await resolver.resolve(
                dns.name.from_text(name),  # absolute: the system's search list is for people who type
                query_type,
                lifetime=LOOKUP_TIMEOUT,
                backend=dns.asyncbackend.get_backend(dns.asyncbackend.sniff()),
            )
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return Answer((), NEGATIVE_TTL)
        except dns.resolver.LifetimeTimeout as exc:
            raise DnsError(name, f"no answer within {LOOKUP_TIMEOUT:g} s") from exc
        except dns.resolver.NoNameservers as exc:
            raise DnsError(name, "no DNS server gave a usable answer") from exc
        except dns.resolver.NoResolverConfiguration as exc:
            raise DnsError(name, "no DNS server is configured") from exc
        except (dns.exception.DNSException, OSError) as exc:
            raise DnsError(name, str(exc) or type(exc).__name__) from exc
        values = _texts(answer) if query_type == "TXT" else _addresses(answer)
        return Answer(values, answer.chaining_result.minimum_ttl if values else NEGATIVE_TTL)

    def _make_resolver(self) -> "Resolver":
        import dns.asyncresolver
        import dns.nameserver

        if not self._nameservers:
            return dns.asyncresolver.Resolver()
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver(ip, port) for ip, port in self._nameservers]
        return resolver

    def _answer_here(self, name: str, query_type: QueryType) -> Answer | None:
        version = 4 if query_type == "A" else 6
        name = name.removesuffix(".").lower()
        try:
            ip = ip_address(name)
        except ValueError:
            pass
        else:
            return Answer((str(ip),) if ip.version == version else (), _HOSTS_TTL)
        if name == "localhost" or name.endswith(".localhost"):
            return Answer((_LOCALHOST[query_type],), _HOSTS_TTL)
        try:
            with self._hosts_file.open("rb") as file:
                found = find_in_hosts(file.read(_MAX_HOSTS_FILE).decode(errors="replace"), name)
        except OSError:
            return None
        # A name that the file has in the other family only is not asked for elsewhere, as with the C library.
        return Answer(tuple(ip for ip in found if ip_address(ip).version == version), _HOSTS_TTL) if found else None


def parse_nameserver(text: str) -> tuple[str, int]:
    """Return (IP address, port) of `192.0.2.1`, `192.0.2.1:53`, `::1` or `[::1]:53`. Raises NameserverError."""
    host, port = text, "53"
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]:")
        if not bracket:
            raise NameserverError(text)
    elif text.count(":") == 1:
        host, _colon, port = text.partition(":")
    try:
        number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
        if not 0 < number <= 0xFFFF:
            raise NameserverError(text)
        return str(ip_address(host)), number
    except ValueError as exc:
        raise NameserverError(text) from exc


def find_in_hosts(text: str, name: str) -> tuple[str, ...]:
    """Return the IP addresses that `text`, in the format of hosts(5), has for `name`, which is in lower case."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        if name not in line.lower():  # nearly every line of a long file
            continue
        ip, *names = line.partition("#")[0].lower().split() or [""]
        if name in names:
            try:
                found[str(ip_address(ip))] = None
            except ValueError:
                continue
        if len(found) == MAX_RECORDS:
            break
    return tuple(found)


def _addresses(answer: "DnsAnswer") -> tuple[str, ...]:
    return tuple(record.address for _, record in zip(range(MAX_RECORDS), answer, strict=False))


def _texts(answer: "DnsAnswer") -> tuple[str, ...]:
    """Read the records, the strings of each joined: one has at most 255 bytes (RFC 1035, section 3.3.14)."""
    joined = (b"".join(record.strings) for _, record in zip(range(MAX_RECORDS), answer, strict=False))
    return tuple(text.decode(errors="replace") for text in joined if len(text) <= MAX_TEXT)
