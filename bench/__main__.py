"""`make bench`: every benchmark, or one: `python -m bench NAME [options]`, NAME one of those in `_ALL`."""

import importlib
import sys

_ALL = ("start", "cids", "chunkers", "stores", "put", "streams", "exchange", "daemon_load", "attack", "git")


def main() -> None:
    """Run what was asked for."""
    name, *arguments = sys.argv[1:] or [""]
    if name and name not in _ALL:
        sys.exit(f"bench: no benchmark '{name}'; one of: {', '.join(_ALL)}")
    for each in [name] if name else _ALL:
        print(f"\n## {each}")
        importlib.import_module(f"bench.{each}").main(arguments)


if __name__ == "__main__":
    main()
