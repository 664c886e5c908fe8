"""Which codec reads a block: from a CID's codec number to the data model and back.

`links_of` is what every walk over the DAG calls once a block, so it goes the shortest way there is for each codec.

Spec: https://github.com/multiformats/multicodec (table.csv, tag `ipld`)
"""

from typing import Final

from ipvcs.errors import UsageError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_cbor, dag_json, dag_pb, git_raw
from ipvcs.objects.data_model import EncodeError, Value, iter_links, shown

_NO_LINKS: Final = frozenset({codecs.RAW, codecs.LIBP2P_KEY, codecs.CODES["cbor"], codecs.CODES["json"]})
"""Codecs whose blocks never link: plain CBOR and JSON have bytes and text where the dag forms have CIDs."""


class UnsupportedCodecError(UsageError):
    """A codec that ipvcs cannot read, or cannot write."""

    def __init__(self, codec: int, verb: str = "read") -> None:
        super().__init__(
            f"cannot {verb} codec '{codecs.name_of(codec)}'",
            hint="ipvcs reads raw, dag-pb, dag-cbor, dag-json and git-raw; it writes all but git-raw",
        )
        self.codec = codec


def decode(cid: Cid, data: bytes) -> Value:
    """Return the data-model form of the block `data`, whose CID is `cid`; it is not checked against it.

    dag-cbor is read leniently, because blocks of looser encoders are out there. A raw block is its bytes.

    Raises:
        UnsupportedCodecError: no reader for the CID's codec.
        DecodeError: `data` is not what the codec says.
    """
    codec = cid.codec
    if codec == codecs.DAG_PB:
        return dag_pb.to_data_model(dag_pb.decode(data))
    if codec == codecs.RAW:
        return data
    if codec == codecs.DAG_CBOR:
        return dag_cbor.decode(data, strict=False)
    if codec == codecs.DAG_JSON:
        return dag_json.decode(data)
    if codec == codecs.GIT_RAW:
        return git_raw.decode(data, cid.hash_code)
    raise UnsupportedCodecError(codec)


def encode(codec: int, value: Value) -> bytes:
    """Return the canonical bytes of `value` in the codec of that number.

    Raises:
        UnsupportedCodecError: no writer for `codec`.
        EncodeError: `value` has no form in it.
    """
    if codec == codecs.DAG_PB:
        return dag_pb.encode(dag_pb.from_data_model(value))
    if codec == codecs.RAW:
        if not isinstance(value, bytes):
            raise EncodeError("raw", f"value is not bytes but {shown(value)}")
        return value
    if codec == codecs.DAG_CBOR:
        return dag_cbor.encode(value)
    if codec == codecs.DAG_JSON:
        return dag_json.encode(value)
    raise UnsupportedCodecError(codec, "write")


def links_of(cid: Cid, data: bytes) -> list[Cid]:
    """Return the links of the block `data`, whose CID is `cid`, in their order there, each as often as it is there.

    From git-raw they are those that Git follows: no submodules, no objects of merge tags.

    Raises:
        UnsupportedCodecError: nothing is known of the CID's codec, so neither of its links.
        DecodeError: `data` is not what the codec says.
    """
    codec = cid.codec
    if codec == codecs.DAG_PB:
        return dag_pb.link_cids(data)
    if codec in _NO_LINKS:
        return []
    if codec == codecs.GIT_RAW:
        return git_raw.links(data, cid.hash_code)
    return list(iter_links(decode(cid, data)))
