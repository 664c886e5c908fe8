"""Every public vector of UnixFS imports and chunkers, through the command line: the CIDs that `ipfs add` prints."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import streams
from tests.cli_runner import Ipvcs
from tests.unit.objects.test_kubo_add_vectors import load_vectors, random_names

CHUNKERS = json.loads((Path(__file__).parents[2] / "vectors" / "chunker" / "rabin_buzhash.json").read_text())
CONFIGURED = {
    "hamt-threshold": "Import.UnixFSHAMTDirectorySizeThreshold",
    "size-estimation": "Import.UnixFSHAMTDirectorySizeEstimation",
}


def write_input(spec: dict[str, Any], path: Path) -> None:
    """Make on the disk what a vector takes as its input."""
    if "symlink" in spec:
        path.symlink_to(spec["symlink"])
    elif "tree" in spec:
        path.mkdir()
        for name, content in spec["tree"].items():
            entry = path / name
            entry.parent.mkdir(parents=True, exist_ok=True)
            write_input({"text": content} if isinstance(content, str) else content, entry)
    elif "dir_of_x" in spec:
        write_directory(dict.fromkeys(random_names(spec["dir_of_x"]), b"x"), path)
    elif "dir_of_fileN" in spec:
        write_directory({b"file%d" % i: b"%d\n" % i for i in range(1, spec["dir_of_fileN"] + 1)}, path)
    elif "dir_of_longnames" in spec:
        prefix, count = spec["dir_of_longnames"]["prefix"].encode(), spec["dir_of_longnames"]["count"]
        write_directory({prefix + b"%d" % i: prefix + b"%d" % i for i in range(count)}, path)
    else:
        path.write_bytes(streams.from_input(spec))


def write_directory(files: dict[bytes, bytes], path: Path) -> None:
    path.mkdir()
    for name, content in files.items():
        (path / name.decode()).write_bytes(content)


def option_words(options: dict[str, Any], ipvcs: Ipvcs) -> list[str]:
    """Return the vector's options as words of `put`; what Kubo takes from its settings is set in the home."""
    words = []
    profile = options.get("profile", "unixfs-v0-2015")
    settings = {CONFIGURED[name]: value for name, value in options.items() if name in CONFIGURED}
    if settings:
        ipvcs.ok("config", "Import.Profile", profile)
        for key, value in settings.items():
            ipvcs.ok("config", key, value.split(" ")[0])
    else:
        words += ["--profile", profile]
    for name, value in options.items():
        if name == "profile" or name in CONFIGURED:
            continue
        words.append(f"--{name}={str(value).lower() if isinstance(value, bool) else value}")
    return words


@pytest.mark.parametrize("case", load_vectors())
def test_put_prints_the_cid_that_ipfs_add_prints(ipvcs: Ipvcs, case: dict[str, Any], tmp_path: Path) -> None:
    words = option_words(case["options"], ipvcs)
    path = tmp_path / "input"
    write_input(case["input"], path)
    if case.get("error"):
        ipvcs.fails("put", "-rQ", *words, path, code=129)
        return
    assert ipvcs.ok("put", "-rHQ", *words, path).lines == [case["cid"]]
    for below, cid in case.get("children", {}).items():
        assert ipvcs.ok("dag", "resolve", f"{case['cid']}/{below}").lines == [cid]


def chunker_cases() -> list[Any]:
    slow = 8 * 1024 * 1024
    return [
        pytest.param(
            case,
            id=f"{case['chunker']}-{index}",
            marks=[pytest.mark.long] if case.get("input", {}).get("size", 0) > slow else [],
        )
        for index, case in enumerate(CHUNKERS)
        if "cid_v0" in case or "cid_v1_raw" in case
    ]


@pytest.mark.parametrize("case", chunker_cases())
def test_put_with_a_chunker_prints_the_cid_of_the_same_cuts(ipvcs: Ipvcs, case: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "input"
    write_input(case["input"], path)
    put = ("put", "-Q", "--profile", "unixfs-v0-2015", "--chunker", case["chunker"])
    if "cid_v0" in case:
        assert ipvcs.ok(*put, path).lines == [case["cid_v0"]]
    if "cid_v1_raw" in case:
        assert ipvcs.ok(*put, "--cid-version", "1", path).lines == [case["cid_v1_raw"]]
