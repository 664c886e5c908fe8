"""The frozen vectors of Git mapping v1: a CID in them never changes; another CID is another mapping version."""

import json
from typing import Any

import pytest

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.git.payload import GitType
from tests.unit.objects.git.naive_mapping import NaiveMapping, map_object
from tests.unit.objects.git.repository import Repository
from tests.unit.objects.git.vector_cases import CASES, VECTORS, decode_body

ALL: list[dict[str, Any]] = json.loads(VECTORS.read_text())["vectors"]
BEYOND_THE_ORACLE = ("sharded", "hashes", "pages", "long names", "chunker")


def repository_of(vector: dict[str, Any]) -> Repository:
    repository = Repository(ObjectFormat(vector["object_format"]), vector["profile"])
    for each in vector["objects"]:
        assert repository.add(GitType(each["type"]), decode_body(each["body"])) == ObjectId.parse(each["oid"])
    return repository


@pytest.mark.parametrize("vector", ALL, ids=lambda vector: vector["name"])
def test_the_mapping_gives_the_frozen_cids(vector: dict[str, Any]) -> None:
    repository = repository_of(vector)
    mapped = repository.round_trip(ObjectId.parse(vector["oid"]), NodeKind(vector["kind"]))
    assert (str(mapped.cid), mapped.size) == (vector["cid"], vector["size"])
    assert sorted(map(str, repository.store.blocks)) == vector["blocks"]


@pytest.mark.parametrize(
    "vector",
    [vector for vector in ALL if not any(word in vector["rule"] for word in BEYOND_THE_ORACLE)],
    ids=lambda vector: vector["name"],
)
def test_a_second_implementation_gives_the_frozen_cids(vector: dict[str, Any]) -> None:
    payloads = {oid.raw: payload for oid, payload in repository_of(vector).payloads.items()}
    oracle = NaiveMapping()
    cid, size = map_object(oracle, payloads, bytes.fromhex(vector["oid"]), vector["kind"])
    assert (str(Cid(cid)), size) == (vector["cid"], vector["size"])
    assert sorted(str(Cid(each)) for each in oracle.blocks) == vector["blocks"]


def test_every_case_is_frozen_and_no_vector_lost_its_case() -> None:
    assert sorted(vector["name"] for vector in ALL) == sorted(CASES)
    assert {vector["name"]: vector["rule"] for vector in ALL} == {name: rule for name, (rule, _make) in CASES.items()}
