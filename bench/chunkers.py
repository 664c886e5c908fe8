"""How fast each chunker cuts, in MB/s (10^6 bytes), from memory: `python -m bench chunkers [--mib N] [SPEC …]`.

Random data is the usual case. Zeros and small parameters are the worst ones of the content-defined chunkers: every
offset matches, or the cost per chunk outweighs the cost per byte.
"""

import argparse
import hashlib
import io
import time
from collections.abc import Iterator

from ipvcs.objects.chunkers.registry import parse_chunker

_SPECS = (
    "size-262144",
    "size-1048576",
    "rabin",
    "rabin-36-512-1024",
    "rabin-16-17-18",
    "buzhash",
    "fastcdc",
    "fastcdc-64-256-1024",
)


def _inputs(size: int) -> Iterator[tuple[str, bytes]]:
    yield "random", hashlib.shake_128(b"bench").digest(size)
    yield "zeros", b"\0" * size  # written out: bytes(size) would be one page of zeros, mapped many times


def main(words: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench chunkers", description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="size of each input")
    parser.add_argument("specs", nargs="*", default=_SPECS, metavar="SPEC")
    arguments = parser.parse_args(words)

    print(f"{'chunker':24}{'input':10}{'MB/s':>10}{'chunks':>12}{'mean size':>12}")
    for name, data in _inputs(arguments.mib * 1024 * 1024):
        for spec in arguments.specs:
            chunker = parse_chunker(spec)
            for _ in chunker.chunks(io.BytesIO(data[: 1024 * 1024]).read):
                pass  # imports and tables are made before the clock starts
            started = time.perf_counter()
            count = sum(1 for _ in chunker.chunks(io.BytesIO(data).read))
            seconds = time.perf_counter() - started
            print(f"{spec:24}{name:10}{len(data) / seconds / 1e6:10.0f}{count:12}{len(data) // count:12}", flush=True)
