"""Chunkers by name, and plug-ins."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import UsageError
from ipvcs.objects.chunkers import registry
from ipvcs.objects.chunkers.buzhash import BuzhashChunker
from ipvcs.objects.chunkers.fastcdc import FastCdcChunker
from ipvcs.objects.chunkers.interface import Chunker, ChunkerError, Read
from ipvcs.objects.chunkers.rabin import RabinChunker
from ipvcs.objects.chunkers.registry import parse_chunker, register_chunker
from ipvcs.objects.chunkers.size import SizeChunker
from tests.unit.objects.chunkers.readers import cut


@dataclass(frozen=True)
class WholeChunker:
    """One chunk of at most `max_size` bytes, enough for a plug-in."""

    max_size: int

    def chunks(self, read: Read) -> Iterator[bytes]:
        if data := read(self.max_size):
            yield data


def _make_whole(parameters: tuple[str, ...]) -> Chunker:
    if len(parameters) != 1:
        raise ChunkerError("wants a size", hint="use whole-N")
    return WholeChunker(int(parameters[0]))


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("default", SizeChunker(262144)),
        ("size-1", SizeChunker(1)),
        ("size-1048576", SizeChunker(1048576)),
        ("size-2096896", SizeChunker(2096896)),
        ("rabin", RabinChunker(87381, 262144, 393216)),
        ("rabin-65536", RabinChunker(21845, 65536, 98304)),
        ("rabin-36-512-1024", RabinChunker(36, 512, 1024)),
        ("rabin-min:16-avg:25-max:32", RabinChunker(16, 25, 32)),
        ("rabin-16-avg:25-32", RabinChunker(16, 25, 32)),
        ("buzhash", BuzhashChunker()),
        ("fastcdc", FastCdcChunker()),
        ("fastcdc-64-256-1024", FastCdcChunker(64, 256, 1024)),
    ],
)
def test_text_names_a_chunker(spec: str, expected: Chunker) -> None:
    assert parse_chunker(spec) == expected


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("", "unknown chunker ''"),
        ("Size-5", "unknown chunker 'Size-5'"),
        ("sizes-5", "unknown chunker 'sizes-5'"),
        ("default-5", "bad chunker 'default-5': parameter count 1 is not 0"),
        ("size", "bad chunker 'size': parameter count 0 is not 1"),
        ("size-", "bad chunker 'size-': '' is not a size in bytes"),
        ("size-0", "bad chunker 'size-0': size 0 is not in 1..2096896"),
        ("size-2096897", "bad chunker 'size-2096897': size 2096897 is not in 1..2096896"),
        ("size--5", "bad chunker 'size--5': parameter count 2 is not 1"),
        ("size-+5", "bad chunker 'size-+5': '+5' is not a size in bytes"),
        ("size-1_0", "bad chunker 'size-1_0': '1_0' is not a size in bytes"),
        ("size-٣", "bad chunker 'size-٣': '٣' is not a size in bytes"),
        ("size-" + "9" * 19, f"bad chunker 'size-{'9' * 19}': '{'9' * 19}' is not a size in bytes"),
        ("rabin-12-512-1024", "bad chunker 'rabin-12-512-1024': minimum 12 is less than 16"),
        ("rabin-16-32", "bad chunker 'rabin-16-32': parameter count 2 is not 0 or 1 or 3"),
        ("rabin-max:16-avg:25-min:32", "bad chunker 'rabin-max:16-avg:25-min:32': 'max:16' is not a size in bytes"),
        ("buzhash-5", "bad chunker 'buzhash-5': parameter count 1 is not 0"),
        ("fastcdc-262144", "bad chunker 'fastcdc-262144': parameter count 1 is not 0 or 3"),
        ("fastcdc-64-300-1024", "bad chunker 'fastcdc-64-300-1024': average 300 is not a power of two from 256 on"),
    ],
)
def test_bad_text_is_refused_with_what_is_wrong_and_what_is_accepted(spec: str, problem: str) -> None:
    with pytest.raises(ChunkerError) as caught:
        parse_chunker(spec)

    assert str(caught.value) == problem
    assert isinstance(caught.value, UsageError)
    assert caught.value.exit_code == 129
    assert caught.value.hint is not None
    for form in ("default", "size-N", "rabin-MIN-AVG-MAX", "buzhash", "fastcdc-MIN-AVG-MAX"):
        assert form in caught.value.hint


_KNOWN = st.sampled_from(["default", "size", "rabin", "buzhash", "fastcdc"])
_PARAMETERS = st.lists(
    st.one_of(st.text(max_size=5), st.integers(0, 3_000_000).map(str), st.just("min:16")), max_size=4
)


@given(st.builds(lambda name, parameters: "-".join([name, *parameters]), _KNOWN, _PARAMETERS))
def test_any_text_makes_a_bounded_chunker_or_our_error(spec: str) -> None:
    try:
        chunker = parse_chunker(spec)
    except ChunkerError:
        return
    assert 1 <= chunker.max_size <= 2096896


def test_a_registered_chunker_gets_its_parameters() -> None:
    register_chunker("whole", _make_whole)

    assert cut(parse_chunker("whole-5"), b"hello") == [b"hello"]


def test_a_registered_chunker_speaks_for_itself_when_it_refuses() -> None:
    register_chunker("whole", _make_whole)

    with pytest.raises(ChunkerError, match=r"^bad chunker 'whole': wants a size$") as caught:
        parse_chunker("whole")
    assert caught.value.hint == "use whole-N"


@pytest.mark.parametrize("size", [0, 2096897])
def test_a_registered_chunker_may_not_make_chunks_that_no_block_can_hold(size: int) -> None:
    register_chunker("whole", _make_whole)

    with pytest.raises(ChunkerError, match=f"its maximum {size} is not in 1..2096896"):
        parse_chunker(f"whole-{size}")


@pytest.mark.parametrize("name", ["", "two-words", "Upper", "spa ce", "ünicode"])
def test_names_that_no_text_can_mean_are_refused(name: str) -> None:
    with pytest.raises(ChunkerError, match="bad chunker name"):
        register_chunker(name, _make_whole)


def test_a_name_is_given_once() -> None:
    with pytest.raises(ChunkerError, match=r"^chunker 'rabin' is already registered$"):
        register_chunker("rabin", _make_whole)


def test_plug_ins_are_not_looked_for_when_the_name_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: str) -> NoReturn:
        raise AssertionError("looked for plug-ins")

    monkeypatch.setattr(importlib.metadata, "entry_points", refuse)

    assert parse_chunker("rabin")
    with pytest.raises(AssertionError, match="looked for plug-ins"):
        parse_chunker("whole-5")


def _install(site: Path, distribution: str, value: str) -> None:
    """Lay out an installed distribution that offers the chunker `whole`."""
    metadata = site / f"{distribution}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[ipvcs.chunkers]\nwhole = {value}\n")


def test_an_installed_plug_in_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, "whole", f"{__name__}:_make_whole")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert parse_chunker("whole-7").max_size == 7
    monkeypatch.setattr(importlib.metadata, "entry_points", None)
    assert parse_chunker("whole-8").max_size == 8, "found once, remembered"


@pytest.mark.parametrize("value", ["no_such_module:make", f"{__name__}:no_such_name"])
def test_a_plug_in_that_cannot_be_loaded_is_named(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, "whole", value)
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(ChunkerError, match=f"^cannot load the plug-in '{value}' for chunker 'whole'"):
        parse_chunker("whole-7")


def test_two_plug_ins_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path / "a", "one", "one:make")
    _install(tmp_path / "b", "two", "two:make")
    monkeypatch.syspath_prepend(str(tmp_path / "a"))
    monkeypatch.syspath_prepend(str(tmp_path / "b"))

    with pytest.raises(ChunkerError, match=r"more than one plug-in: one:make, two:make$"):
        parse_chunker("whole-7")


def test_naming_a_chunker_imports_no_heavy_module() -> None:
    code = (
        "import sys\n"
        "from ipvcs.objects.chunkers.registry import parse_chunker\n"
        "for spec in ('default', 'rabin', 'buzhash', 'fastcdc'): parse_chunker(spec)\n"
        "print(*{'numpy', 'pyfastcdc', 'importlib.metadata'} & set(sys.modules))\n"
    )
    root = Path(registry.__file__).parents[3]

    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
