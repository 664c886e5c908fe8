"""DNSLink: domains as names, by TXT records `dnslink=/ipfs/…` or `dnslink=/ipns/…` at `_dnslink.<domain>`.

Only there: the domain itself, where records were in the early days, is not asked, as Kubo does not any more. Whoever
writes the records is trusted with the path and no more: how long they count is capped, and so is how many are kept.

Spec: https://dnslink.org/ and https://specs.ipfs.tech/http-gateways/subdomain-gateway/ (inlined names)
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from ipvcs.errors import DecodeError, NotFoundError, UnavailableError, UsageError
from ipvcs.node.naming.name_path import NamePath
from ipvcs.node.network.dns_client import Answer, Lookup

MAX_TTL: Final = 3600.0
"""Seconds; a record's author may say a century."""
MAX_CACHED: Final = 1024
"""Domains remembered."""
_PREFIX: Final = "_dnslink."
_ENTRY: Final = "dnslink="
_MAX_DOMAIN: Final = 253 - len(_PREFIX)
"""Characters; a name in DNS has 253 (RFC 1035, section 2.3.4)."""
_MAX_LABEL: Final = 63
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


class NoDnsLinkError(NotFoundError):
    """A domain has no DNSLink. `reason` is empty or says what is wrong with the one it has."""

    def __init__(self, domain: str, reason: str = "") -> None:
        super().__init__(
            f"'{domain}' has no DNSLink" + (f": {reason}" if reason else ""),
            hint=f"its owner sets one as a TXT record of '{_PREFIX}{domain}': dnslink=/ipfs/<cid>",
        )
        self.domain = domain
        self.reason = reason


class AmbiguousDnsLinkError(DecodeError):
    """A domain has several DNSLinks, so nobody can tell which one counts."""

    def __init__(self, domain: str, links: Sequence[str]) -> None:
        super().__init__(
            f"'{domain}' has {len(links)} DNSLinks: {', '.join(repr(link[:80]) for link in links[:3])}",
            hint=f"its owner must leave one TXT record of '{_PREFIX}{domain}' that begins with 'dnslink=/ip'",
        )
        self.domain = domain
        self.links = tuple(links)


@dataclass(frozen=True, slots=True)
class DnsLink:
    """What a domain stands for, and for how many seconds."""

    path: NamePath
    ttl: float


def parse_domain(text: str) -> str | None:
    """Return the domain that `text` is, in lower case and without the final dot; None if it is none.

    Names in one label, as subdomain gateways have them, are taken too: `en-wikipedia--on--ipfs-org`. Domains in other
    scripts are written as DNS has them, `xn--…`.
    """
    name = text.lower().removesuffix(".")
    if "." not in name and "-" in name:
        name = uninline_domain(name)
    labels = name.split(".")
    if len(labels) < 2 or len(name) > _MAX_DOMAIN or not all(map(_LABEL.fullmatch, labels)):
        return None
    return None if labels[-1].isdigit() else name  # an IP address


def inline_domain(domain: str) -> str:
    """Return `domain` as one label: `-` as `--`, and `.` as `-`. Raises UsageError: it is too long for that."""
    label = domain.replace("-", "--").replace(".", "-")
    if len(label) > _MAX_LABEL:
        raise UsageError(
            f"'{domain}' does not fit into one label of a domain", hint=f"a label has {_MAX_LABEL} characters at most"
        )
    return label


def uninline_domain(label: str) -> str:
    """Return the domain that `inline_domain` made `label` of."""
    return "-".join(part.replace("-", ".") for part in label.split("--"))


def choose_link(domain: str, texts: Sequence[str]) -> NamePath:
    """Return the path that the TXT records `texts` of `domain` say.

    Records for other purposes, of other namespaces, or with a path that is none are passed over.

    Raises:
        NoDnsLinkError: there is none. AmbiguousDnsLinkError: there are several.
    """
    found: list[NamePath] = []
    reason = ""
    for text in texts:
        link = text.removeprefix(_ENTRY)
        if link == text or not link.startswith(("/ipfs/", "/ipns/")):
            continue
        try:
            found.append(NamePath.parse(link, "ipfs"))
        except DecodeError as exc:
            reason = reason or str(exc)
    if len(found) > 1:
        raise AmbiguousDnsLinkError(domain, [str(each) for each in found])
    if not found:
        raise NoDnsLinkError(domain, reason)
    return found[0]


class DnsLinks:
    """Asks for DNSLinks and remembers what DNS said. Any number of tasks may use one."""

    def __init__(self, lookup: Lookup, *, clock: Callable[[], float] = anyio.current_time) -> None:
        """Ask by `lookup`; `clock` never goes back."""
        self._lookup = lookup
        self._clock = clock
        self._cache: OrderedDict[str, tuple[float, Answer]] = OrderedDict()
        """Answers by domain, and until when they count; that there is none is an answer too."""

    async def resolve(self, domain: str, *, nocache: bool = False) -> DnsLink:
        """Return what `domain`, as `parse_domain` gives it, stands for. It takes as long as a look-up.

        Raises:
            DnsError: nobody answered. NoDnsLinkError, AmbiguousDnsLinkError: see `choose_link`.
        """
        if not nocache and (link := self.try_cached(domain)) is not None:
            return link
        answer = await self._lookup(f"{_PREFIX}{domain}", "TXT")
        ttl = min(max(answer.ttl, 0.0), MAX_TTL)
        self._cache[domain] = (self._clock() + ttl, answer)
        self._cache.move_to_end(domain)
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return DnsLink(choose_link(domain, answer.values), ttl)

    def try_cached(self, domain: str) -> DnsLink | None:
        """Return what DNS said of `domain` as long as it counts, else None. Errors as `resolve`."""
        if (cached := self._cache.get(domain)) is None:
            return None
        expires, answer = cached
        left = expires - self._clock()
        if left <= 0:
            del self._cache[domain]
            return None
        return DnsLink(choose_link(domain, answer.values), left)


class DnsTimeoutError(UnavailableError):
    """There was no time left to wait for DNS."""

    def __init__(self, domain: str) -> None:
        super().__init__(f"cannot look up the DNSLink of '{domain}': no answer in time", hint="try again")
        self.domain = domain
