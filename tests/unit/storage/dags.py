"""Small DAGs for the tests of pins, walks and collections."""

from ipvcs.multiformats import codecs
from ipvcs.objects import dag_pb
from ipvcs.objects.block import Block


def node(*children: Block, data: bytes = b"") -> Block:
    """Return a dag-pb node that links to `children`."""
    links = tuple(dag_pb.PBLink(child.cid, str(number).encode()) for number, child in enumerate(children))
    return Block.of(dag_pb.encode(dag_pb.PBNode(links, data)), codecs.DAG_PB)


def chain(length: int) -> list[Block]:
    """Return a chain of nodes, each linking to the one before; the last is the root."""
    blocks = [node(data=b"end")]
    for number in range(1, length):
        blocks.append(node(blocks[-1], data=str(number).encode()))
    return blocks


LEAVES = [Block.of(f"leaf {number}".encode()) for number in range(4)]
LEFT, RIGHT = node(*LEAVES[:2]), node(*LEAVES[1:3])
ROOT = node(LEFT, RIGHT, LEAVES[3])
TREE = [*LEAVES, LEFT, RIGHT, ROOT]
