"""Chunkers by name: the text that `--chunker` and profiles use, and the place where further ones plug in.

A chunker's text is its name and then its parameters, each after a dash: `rabin-87381-262144-393216`. The names here are
Kubo's, plus `fastcdc`. A program adds one with `register_chunker`; a Python distribution adds one to every program with
an entry point in the group `ipvcs.chunkers`, which is looked for only when a name is unknown.

Spec: white paper §3.6.7 (c); `FromString` in https://github.com/ipfs/boxo/blob/main/chunker/parse.go
"""

from collections.abc import Callable
from typing import cast

from ipvcs.objects.chunkers.buzhash import BuzhashChunker
from ipvcs.objects.chunkers.fastcdc import FastCdcChunker
from ipvcs.objects.chunkers.interface import CHUNK_SIZE_LIMIT, Chunker, ChunkerError
from ipvcs.objects.chunkers.rabin import RabinChunker
from ipvcs.objects.chunkers.size import SizeChunker

ChunkerFactory = Callable[[tuple[str, ...]], Chunker]
"""Makes a chunker from the parameters in its text, without the dashes; raises `ChunkerError` when they are wrong."""

ENTRY_POINT_GROUP = "ipvcs.chunkers"
DEFAULT_CHUNK_SIZE = 256 * 1024
"""Kubo's `default`, in bytes."""

_FORMS = (
    "use default, size-N, rabin, rabin-AVG, rabin-MIN-AVG-MAX, buzhash, fastcdc, fastcdc-MIN-AVG-MAX "
    "or the name of an installed plug-in"
)
_MAX_DIGITS = 18  # any sensible size and many senseless ones; int() of a long text takes time


def parse_chunker(spec: str) -> Chunker:
    """Return the chunker that `spec` names: `default`, `size-262144`, `rabin-min:16-avg:64-max:128` and so on.

    Raises:
        ChunkerError: no such name, or parameters that its chunker cannot have.
    """
    name, *parameters = spec.split("-")
    factory = _factories.get(name) or _load_plugin(name)
    if factory is None:
        raise ChunkerError(f"unknown chunker '{spec}'", hint=_FORMS)
    try:
        chunker = factory(tuple(parameters))
    except ChunkerError as exc:
        raise ChunkerError(f"bad chunker '{spec}': {exc}", hint=exc.hint or _FORMS) from exc
    if not 1 <= chunker.max_size <= CHUNK_SIZE_LIMIT:
        raise ChunkerError(f"bad chunker '{spec}': its maximum {chunker.max_size} is not in 1..{CHUNK_SIZE_LIMIT}")
    return chunker


def register_chunker(name: str, factory: ChunkerFactory) -> None:
    """Make `name` and all `name-…` known to `parse_chunker` in this process.

    Raises:
        ChunkerError: `name` is taken, or is not lower-case ASCII letters and digits.
    """
    if not (name.isascii() and name.isalnum() and name == name.lower()):
        raise ChunkerError(f"bad chunker name '{name}'", hint="use lower-case letters and digits")
    if name in _factories:
        raise ChunkerError(f"chunker '{name}' is already registered")
    _factories[name] = factory


def _load_plugin(name: str) -> ChunkerFactory | None:
    """Return what an installed distribution offers under `name`, and remember it; None when none does."""
    from importlib.metadata import entry_points

    found = entry_points(group=ENTRY_POINT_GROUP, name=name)
    if not found:
        return None
    # Which of two wins would depend on the installation, and a file's CID must not.
    offers = sorted({entry_point.value for entry_point in found})
    if len(offers) > 1:
        raise ChunkerError(f"chunker '{name}' is offered by more than one plug-in: {', '.join(offers)}")
    try:
        factory = next(iter(found)).load()
    except (ImportError, AttributeError) as exc:
        raise ChunkerError(f"cannot load the plug-in '{offers[0]}' for chunker '{name}': {exc}") from exc
    register_chunker(name, cast(ChunkerFactory, factory))
    return _factories[name]


def _make_default(parameters: tuple[str, ...]) -> Chunker:
    _expect_count(parameters, 0)
    return SizeChunker(DEFAULT_CHUNK_SIZE)


def _make_size(parameters: tuple[str, ...]) -> Chunker:
    _expect_count(parameters, 1)
    return SizeChunker(_parse_size(parameters[0]))


def _make_rabin(parameters: tuple[str, ...]) -> Chunker:
    _expect_count(parameters, 0, 1, 3)
    if not parameters:
        return RabinChunker.from_average()
    if len(parameters) == 1:
        return RabinChunker.from_average(_parse_size(parameters[0]))
    labels = ("min:", "avg:", "max:")
    return RabinChunker(
        *(_parse_size(text.removeprefix(label)) for text, label in zip(parameters, labels, strict=True))
    )


def _make_buzhash(parameters: tuple[str, ...]) -> Chunker:
    _expect_count(parameters, 0)
    return BuzhashChunker()


def _make_fastcdc(parameters: tuple[str, ...]) -> Chunker:
    _expect_count(parameters, 0, 3)
    return FastCdcChunker(*map(_parse_size, parameters))


def _expect_count(parameters: tuple[str, ...], *allowed: int) -> None:
    if len(parameters) not in allowed:
        raise ChunkerError(f"parameter count {len(parameters)} is not {' or '.join(map(str, allowed))}")


def _parse_size(text: str) -> int:
    """Read a decimal number of bytes: digits alone, no sign, space or underscore."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise ChunkerError(f"'{text}' is not a size in bytes")
    return int(text)


_factories: dict[str, ChunkerFactory] = {
    "default": _make_default,
    "size": _make_size,
    "rabin": _make_rabin,
    "buzhash": _make_buzhash,
    "fastcdc": _make_fastcdc,
}
