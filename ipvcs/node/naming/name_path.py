"""Paths that names lead to, as text: what stands behind the name is joined to what the name stands for.

    /ipns/<name>/docs/  with  <name> → /ipfs/<cid>/site     gives     /ipfs/<cid>/site/docs/

`objects/path.py` takes a path apart to walk it. Here it stays as it was written, a slash at its end included, which
gateways give a meaning to.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, Self

from ipvcs.errors import DecodeError, LimitError
from ipvcs.objects.path import MAX_COMPONENTS, parse_path

Namespace = Literal["ipfs", "ipns"]
_SHOWN: Final = 120


class NameSyntaxError(DecodeError):
    """Text is neither a NodeId, nor the name of a key of ours, nor a domain."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"'{text[:_SHOWN]}' is no name",
            hint="a name is a NodeId (`k51…` or `12D3Koo…`), a key that `ipvcs key list` shows, or a domain",
        )
        self.text = text


@dataclass(frozen=True, slots=True)
class NamePath:
    """`/<namespace>/<root><rest>`; `rest` is empty or begins with a slash."""

    namespace: str
    root: str
    rest: str = ""

    @classmethod
    def parse(cls, text: str, default: Namespace) -> Self:
        """Return the path that `text` writes, which without a namespace is in `default`.

        Raises:
            PathSyntaxError, CidError, LimitError: as `objects.path.parse_path`.
        """
        whole = text if text.startswith("/") else f"/{default}/{text}"
        parse_path(whole)
        _, namespace, root, *rest = whole.split("/", 3)
        return cls(namespace, root, f"/{rest[0]}" if rest else "")

    def join(self, rest: str) -> Self:
        """Return the path that goes on with `rest`, another path's.

        Raises:
            LimitError: more components than a path may have.
        """
        joined = self.rest.rstrip("/") + rest if rest else self.rest
        if joined.count("/") > MAX_COMPONENTS:
            raise LimitError(f"'/{self.namespace}/{self.root}' goes on for more than {MAX_COMPONENTS} components")
        return replace(self, rest=joined)

    def __str__(self) -> str:
        return f"/{self.namespace}/{self.root}{self.rest}"
