"""Walk a DAG: every block below some roots, once, parents before children.

The order is depth-first pre-order over the links as the blocks have them: the order of Kubo's `dag export` and of CARs
with `order=dfs`. Any depth (a history of a million commits is a chain), memory bounded but for the set of CIDs seen.

Spec: https://specs.ipfs.tech/http-gateways/trustless-gateway/ (car-order), white paper §3.5.
"""

from collections.abc import Callable, Iterable, Iterator

from ipvcs.errors import NotFoundError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import codec_registry
from ipvcs.objects.block import BlockNotFoundError, BlockReader
from ipvcs.objects.inline import read_block
from ipvcs.objects.pending_links import PendingLinks


class MissingBlocksError(NotFoundError):
    """A DAG is not complete: `cid` is linked from `parent` (None for a root) and is not there."""

    def __init__(self, cid: Cid, parent: Cid | None) -> None:
        where = f", which '{parent}' links to" if parent is not None else ""
        super().__init__(f"block '{cid}' not found{where}", hint="the DAG is not complete in this home's store")
        self.cid = cid
        self.parent = parent


def walk(
    reader: BlockReader,
    roots: Iterable[Cid],
    *,
    inline: bool = False,
    seen: set[bytes] | None = None,
    on_missing: Callable[[Cid, Cid | None], None] | None = None,
    prefetch: Callable[[list[Cid]], None] | None = None,
) -> Iterator[tuple[Cid, bytes]]:
    """Yield (CID, bytes) of each block below and including `roots`, each CID once, in depth-first pre-order.

    v0 and v1 of one block count as two, as they do in Kubo.

    Args:
        reader: where the blocks are.
        roots: walked one after the other; what one has shown the next does not repeat.
        inline: also yield identity CIDs, which no store and no CAR holds. Their links are followed either way.
        seen: `Cid.raw` of what not to visit; grows as the walk goes on. Pass one set to join several walks.
        on_missing: called with (CID, parent or None for a root) for each block that the reader lacks; the walk goes on.
            Default: raise MissingBlocksError.
        prefetch: told the links of each node, those seen left out, before the first of them is read.

    Raises:
        MissingBlocksError: a block is not there and `on_missing` is not given.
        UnsupportedCodecError: a codec whose links nobody here can read; a DAG is not called whole by leaving them out.
        DecodeError: a block is not what its codec says.
    """
    seen = set() if seen is None else seen

    def links_of(cid: Cid) -> list[Cid]:
        return codec_registry.links_of(cid, read_block(reader, cid))

    for root in roots:
        pending: PendingLinks[Cid] = PendingLinks(links_of)
        step: tuple[Cid | None, int, Cid] | None = (None, 0, root)
        while step is not None:
            parent, depth, cid = step
            if cid.raw not in seen:
                seen.add(cid.raw)
                try:
                    data = read_block(reader, cid)
                except BlockNotFoundError as exc:
                    if on_missing is None:
                        raise MissingBlocksError(cid, parent) from exc
                    on_missing(cid, parent)
                else:
                    if inline or not cid.is_identity:
                        yield cid, data
                    if cid.codec != codecs.RAW and (links := codec_registry.links_of(cid, data)):
                        if prefetch is not None and (new := [link for link in links if link.raw not in seen]):
                            prefetch(new)
                        pending.push(cid, depth + 1, links)
            step = pending.pop()
