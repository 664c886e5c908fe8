"""The IPLD data model in Python: what every codec can be decoded to, and what the general ones encode from.

Kinds and types: null `None`, boolean `bool`, integer `int` (from -2**64 to 2**64 - 1), float `float` (finite), string
`str`, bytes `bytes`, list `list`, map `dict` with `str` keys, link `Cid`.

Some formats have strings that need not be UTF-8 (names in dag-pb, Git's headers). Their bytes that are not UTF-8 become
lone surrogates, as Python does with file names (PEP 383, `surrogateescape`), so nothing is lost on the way back.

Spec: https://ipld.io/docs/data-model/
"""

from collections.abc import Iterator
from typing import Final, TypeAlias

from ipvcs.errors import UsageError
from ipvcs.multiformats.cid import Cid

Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | dict[str, Value] | Cid | None"
"""One node of the data model with all below it."""

MAX_DEPTH: Final = 1024
"""How many lists and maps may lie one in the other, in and out; go-ipld-prime's default. No codec recurses for them."""
MAX_INT: Final = (1 << 64) - 1
MIN_INT: Final = -(1 << 64)


class EncodeError(UsageError):
    """A value has no form in a codec: NaN, a string that is not Unicode, a list where dag-pb wants a map.

    `codec` is the codec's name.
    """

    def __init__(self, codec: str, problem: str) -> None:
        super().__init__(f"cannot encode as {codec}: {problem}")
        self.codec = codec


def iter_links(value: Value) -> Iterator[Cid]:
    """Yield every link in `value`, in the order of its lists and maps, each as often as it is there."""
    if isinstance(value, Cid):
        yield value
        return
    stack = [_children(value)]
    while stack:
        for item in stack[-1]:
            if isinstance(item, Cid):
                yield item
            elif isinstance(item, (list, dict)):
                stack.append(_children(item))
                break
        else:
            stack.pop()


def shown(value: object) -> str:
    """Return how an error message names the kind of `value`."""
    return _KINDS.get(type(value)) or f"Python object of type {type(value).__name__}"


_KINDS: Final[dict[type, str]] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "float",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    Cid: "link",
}


def _children(value: Value) -> Iterator[Value]:
    if isinstance(value, list):
        return iter(value)
    return iter(value.values()) if isinstance(value, dict) else iter(())
