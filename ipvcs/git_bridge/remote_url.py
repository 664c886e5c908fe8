"""What stands behind a remote: `ipfs::/ipns/<name>[/path]` and the other ways to write it.

    ipfs::/ipns/<name>[/path]   ipns://<name>[/path]     a name: a NodeId, a key of ours, a domain; can be pushed to
    ipfs::/ipfs/<cid>[/path]    ipfs://<cid>[/path]      one state of it for ever; can't

Git gives the helper what is behind `::`, and else the whole URL.

Spec: DESIGN §5; gitremote-helpers(7) "Invocation"
"""

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote

from ipvcs.errors import DecodeError, LimitError, UsageError
from ipvcs.objects.path import parse_path

_HINT: Final = "a remote is `ipfs::/ipns/<name>[/path]`, `ipns://<name>[/path]` or `ipfs://<cid>[/path]`"


class RemoteUrlError(UsageError):
    """A remote's URL is none of ours."""

    exit_code = 128

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"cannot use '{url}' as a remote: {why}", hint=_HINT)
        self.url = url


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """`/<namespace>/<root>[/<path>]`: which repository is meant."""

    namespace: Literal["ipfs", "ipns"]
    root: str
    path: tuple[str, ...] = ()

    @property
    def is_writable(self) -> bool:
        """Whether it can be pushed to, by whoever has the name's key."""
        return self.namespace == "ipns"

    def __str__(self) -> str:
        return "/".join(("", self.namespace, self.root, *self.path))


def parse_remote_url(text: str) -> RemoteUrl:
    """Return what `text`, as git hands it to the helper, means.

    Raises:
        RemoteUrlError: it is none of the forms, or its path could lead elsewhere.
    """
    written = text
    for scheme in ("ipfs", "ipns"):
        if text.startswith(f"{scheme}://"):  # a URL, so its odd characters are escaped
            written = f"/{scheme}/" + unquote(text.removeprefix(f"{scheme}://"), errors="surrogateescape")
    if not written.startswith(("/ipfs/", "/ipns/")):
        raise RemoteUrlError(text, "it begins with neither '/ipns/' nor '/ipfs/'")
    if "\0" in written or "\n" in written:
        raise RemoteUrlError(text, "it has a control character")
    namespace, _, rest = written[1:].partition("/")
    root, *path = rest.rstrip("/").split("/")
    if not root:
        raise RemoteUrlError(text, f"there is no {'CID' if namespace == 'ipfs' else 'name'} behind '/{namespace}/'")
    try:
        parse_path("/".join(("", namespace, root, *path)))
    except (DecodeError, LimitError) as exc:
        raise RemoteUrlError(text, str(exc)) from None
    if any(part in ("", ".", "..") for part in path):
        raise RemoteUrlError(text, "its path has an empty component, or one that leads elsewhere")
    return RemoteUrl("ipfs" if namespace == "ipfs" else "ipns", root, tuple(path))
