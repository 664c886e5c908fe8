"""What a push tells the person beside git's own lines: what the network made of it, in a line each. Pure.

-q          what failed
            that nobody else has it, serves it or can reach it, and what to do about that
-v          also what was published, and who has the record
"""

from collections.abc import Iterator
from typing import Final

from ipvcs.git_bridge.push import Published, Pushed

_FIND_PEERS: Final = "`ipvcs swarm connect <address>` or `ipvcs bootstrap add <address>` leads to others"
_SHOWN: Final = 5
"""NodeIds in a line."""


def report(pushed: Pushed, url: str, verbosity: int, *, stays: bool) -> list[str]:
    """Return the lines.

    Args:
        pushed: what became of the push to `url`.
        url: as the user knows it.
        verbosity: as git says it: 0 with `-q`, 1, 2 with `-v`.
        stays: whether the node goes on when this command has ended.
    """
    lines = list(_failures(pushed, url))
    published = pushed.published
    if published is not None and not lines and verbosity >= 1:
        lines += _doubts(published, url, stays=stays)
    if published is not None and verbosity >= 2:
        lines += _details(published, stays=stays)
    return lines


def _failures(pushed: Pushed, url: str) -> Iterator[str]:
    if pushed.overtaken is not None:
        what = "an earlier push from here" if pushed.published is None else "this push"
        yield (
            f"warning: another home published '{url}' beside this one, and that is what others see; "
            f"{what} stays pinned as '{pushed.overtaken}': fetch, merge, and push again"
        )


def _doubts(published: Published, url: str, *, stays: bool) -> Iterator[str]:
    announced = published.announced
    if not announced.takers:
        yield f"warning: nobody else knows of this push yet: {announced.trouble}; a daemon tries again. {_FIND_PEERS}"
    if not stays:
        yield f"warning: nobody serves '{url}' any more when this command has ended; `ipvcs daemon` does"
    elif announced.hidden:
        yield (
            "warning: other machines can't reach this node, which listens on loopback only: "
            "`ipvcs config Addresses.Swarm`, and a restart of the daemon, let them in"
        )


def _details(published: Published, *, stays: bool) -> Iterator[str]:
    yield f"published '/ipfs/{published.root}' with sequence {published.number}"
    if published.pack is None:
        yield "nothing new to pack: every object was there already"
    else:
        pack = published.pack
        yield f"packed {pack.objects:,} objects into {pack.size:,} bytes, {pack.name}"
    if takers := published.announced.takers:
        more = f" and {len(takers) - _SHOWN} more" if len(takers) > _SHOWN else ""
        yield f"the record is with {', '.join(takers[:_SHOWN])}{more}"
    if stays:
        yield "the daemon of this home serves it, and renews the record"
