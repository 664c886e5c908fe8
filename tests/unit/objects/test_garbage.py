"""Whatever the bytes, a decoder returns or raises an error of ours, soon and in little memory.

The inputs are random bytes, bytes that begin as the format does, and valid inputs with bits flipped, pieces cut out,
doubled or put in.
"""

import io
import struct
import time
import tracemalloc
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IpvcsError
from ipvcs.multiformats import codecs, multihash, varint
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import car_index, codec_registry, dag_cbor, dag_json, dag_pb, git_raw, protobuf, unixfs
from ipvcs.objects.block import Block
from ipvcs.objects.car import CarReader
from ipvcs.objects.car_source import CarSource
from ipvcs.objects.car_writer import write_car
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.data_model import Value
from ipvcs.objects.unixfs import DataType, Mtime, UnixfsData

CID: Final = Cid.parse("bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")
TREE: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
WHO: Final = "A <a@b> 1 +0000"


def read_car(data: bytes) -> None:
    reader = CarReader(io.BytesIO(data))
    for _ in reader.iter_blocks():
        pass
    for _ in reader.iter_index():
        pass


def read_block_of(codec: int) -> Callable[[bytes], None]:
    cid = Cid.make(multihash.sum_(b"", multihash.SHA1 if codec == codecs.GIT_RAW else multihash.SHA2_256), codec)

    def read(data: bytes) -> None:
        codec_registry.decode(cid, data)
        codec_registry.links_of(cid, data)

    return read


def make_car() -> bytes:
    out = io.BytesIO()
    write_car([CID], [Block.of(b"one"), Block.of(b"two" * 50)], out.write)
    return out.getvalue()


VALUE: Final[Value] = {"list": [1, -300, 1.5, None, True, "text é", b"bytes"], "link": CID, "map": {"/x": {}, "y": []}}
NODE: Final = PBNode((PBLink(CID, b"a", 1), PBLink(CID, None, None), PBLink(CID, b"b" * 200, 1 << 40)), b"data")
MESSAGE: Final = UnixfsData(DataType.HAMT_SHARD, b"\xff", 9, (262144, 262144, 7), 0x22, 256, 0o755, Mtime(-5, 7))
COMMIT: Final = (
    f"tree {TREE}\nparent {TREE}\nauthor {WHO}\ncommitter {WHO}\n"
    f"mergetag object {TREE}\n type commit\n tag v1\n tagger {WHO}\n \n x\n"
    "gpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----\n\nmessage\n"
)
V2_HEAD: Final = bytes.fromhex("0aa16776657273696f6e02") + bytes(16)
INDEX: Final = b"\x81\x08\x01\0\0\0\x12\0\0\0\0\0\0\0\x01\0\0\0" + b"\x28\0\0\0\x28\0\0\0\0\0\0\0" + bytes(40)

DECODERS: Final[dict[str, tuple[Callable[[bytes], object], list[bytes]]]] = {
    "protobuf": (lambda data: list(protobuf.iter_fields(data)), [dag_pb.encode(NODE), unixfs.encode(MESSAGE)]),
    "dag-pb": (read_block_of(codecs.DAG_PB), [dag_pb.encode(NODE)]),
    "unixfs": (unixfs.decode, [unixfs.encode(MESSAGE)]),
    "dag-cbor": (dag_cbor.decode, [dag_cbor.encode(VALUE)]),
    "lenient dag-cbor": (read_block_of(codecs.DAG_CBOR), [dag_cbor.encode(VALUE)]),
    "dag-json": (read_block_of(codecs.DAG_JSON), [dag_json.encode(VALUE)]),
    "git-raw": (
        read_block_of(codecs.GIT_RAW),
        [
            b"commit %d\0" % len(COMMIT) + COMMIT.encode(),
            b"tree 88\x00100644 a\0" + bytes(20) + b"40000 dir\0" + bytes(20) + b"160000 s\0" + bytes(20),
            b"tag 56\0object " + TREE.encode() + b"\ntype x\n\n",
        ],
    ),
    "git-raw links": (git_raw.links, [b"tree 29\x00100644 a\0" + bytes(20), b"tree 29\x00160000 s\0" + bytes(20)]),
    "car": (
        read_car,
        [make_car(), V2_HEAD + struct.pack("<QQQ", 51, len(make_car()), 51 + len(make_car())) + make_car() + INDEX],
    ),
    "car index": (lambda data: list(car_index.iter_entries(CarSource(io.BytesIO(data)))), [INDEX]),
    "cid": (Cid.decode, [CID.raw, multihash.sum_(b"")]),
    "varint": (varint.decode, [varint.encode(1 << 60)]),
    "multihash": (multihash.decode, [multihash.sum_(b"", multihash.SHA2_512)]),
}


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` with bits flipped and pieces cut out, doubled or put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        how = draw(st.sampled_from(("flip", "cut", "double", "insert", "end")))
        if how == "flip" and start < len(data):
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del data[start:end]
        elif how == "double":
            data[start:start] = data[start:end]
        elif how == "insert":
            data[start:start] = draw(st.binary(min_size=1, max_size=9))
        elif how == "end":
            del data[start:]
    return bytes(data)


@pytest.mark.parametrize("name", DECODERS)
@given(st.data())
def test_damaged_and_random_bytes_raise_only_our_errors(name: str, data: st.DataObject) -> None:
    decode, valid = DECODERS[name]
    whole = data.draw(st.sampled_from(valid))
    inputs = st.one_of(
        damaged(whole), st.binary(max_size=64), st.binary(max_size=32).map(lambda tail: whole[: len(tail)] + tail)
    )
    error = error_of(decode, data.draw(inputs))
    assert error is None or str(error)


@pytest.mark.parametrize("name", DECODERS)
def test_the_valid_inputs_of_this_suite_reach_the_end_of_their_decoder(name: str) -> None:
    decode, valid = DECODERS[name]
    assert [error_of(decode, data) for data in valid] == [None] * len(valid)


@pytest.mark.parametrize("name", [name for name in DECODERS if name not in ("cid", "varint", "multihash")])
@pytest.mark.parametrize(
    "piece",
    [
        b"[", b'{"a":', b"\x81", b"\x9f", b"\xa1\x61a", b"\xbf", b"\xd8\x2a", b"\xc6", b"\x12", b"\x12\x00",
        b"\x0a\x00", b"\x80", b"\x20\x01", b"\x22\x01", b"\xff", b"\x00", b"1", b'"', b"\\", b"\x0d", b" ", b"\x0b",
    ],
)  # fmt: skip
def test_many_of_one_thing_end_soon_and_stay_small(name: str, piece: bytes) -> None:
    decode, valid = DECODERS[name]
    data = piece * (10_000 // len(piece))
    for hostile in (data, valid[0][: len(valid[0]) // 2] + data):
        tracemalloc.start()
        started = time.process_time()
        try:
            error_of(decode, hostile)
            assert tracemalloc.get_traced_memory()[1] < 100 * len(hostile)
        finally:
            tracemalloc.stop()
        assert time.process_time() - started < 2, "far more than linear time needs, even on a busy machine"


def error_of(decode: Callable[[bytes], object], data: bytes) -> IpvcsError | None:
    """Return the error that decoding `data` ends in; an unexpected one is raised."""
    try:
        decode(data)
    except IpvcsError as exc:
        return exc
    return None
