"""What the daemon writes to its log, and what it keeps out of it."""

import io
import logging
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.api.logs import (
    LogLevelError,
    check_subsystem,
    configure,
    parse_levels,
    set_level,
    shorten_id,
    subsystems,
)
from ipvcs.multiformats.peer_id import PeerId

PEER = PeerId.parse("12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8")
FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ([A-Z]+) (\S+) (.*)")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Where logs go meanwhile; afterwards all is as before."""
    root, ours = logging.getLogger(), logging.getLogger("ipvcs")
    before = root.handlers[:], ours.level
    stream = io.StringIO()
    configure("info", stream)
    yield stream
    root.handlers[:] = before[0]
    set_level("all", "warning")
    ours.setLevel(before[1])


def lines(log: io.StringIO) -> list[str]:
    return log.getvalue().splitlines()


def test_a_line_is_time_level_logger_message_and_fields(log: io.StringIO) -> None:
    extra = {"addr": "/ip4/127.0.0.1/tcp/1", "rtt": 0.01234, "why": "no answer", "count": 3, "none": None, "empty": ""}
    logging.getLogger("ipvcs.node.network.swarm").info("connected to %s", "it", extra=extra)

    match = FORM.fullmatch(lines(log)[0])
    assert match is not None
    assert match.groups() == (
        "INFO",
        "ipvcs.node.network.swarm",
        'connected to it addr=/ip4/127.0.0.1/tcp/1 rtt=0.012 why="no answer" count=3 none=None empty=""',
    )


def test_ids_are_shortened_wherever_they_stand(log: io.StringIO) -> None:
    cid = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"
    logger = logging.getLogger("ipvcs.node.x")
    logger.info("met %s at /ip4/1.2.3.4/tcp/1/p2p/%s", PEER, PEER, extra={"cid": cid, "key": PEER.to_base36()})
    logger.info("and QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN")

    for whole in (str(PEER), cid, PEER.to_base36(), "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"):
        assert whole not in log.getvalue()
        assert shorten_id(whole) in log.getvalue()
    assert "/p2p/12D3Koo…6rPxc8 " in lines(log)[0]


@pytest.mark.parametrize(
    "text",
    ["Authorization: Bearer s3cret", "token=s3cret", 'passphrase="s3cret and more"', "http://h/?a=1&token=s3cret&b"],
)
def test_what_looks_like_a_secret_is_not_written(log: io.StringIO, text: str) -> None:
    logging.getLogger("ipvcs.x").warning("got %s", text)
    logging.getLogger("ipvcs.x").warning("got it", extra={"token": "s3cret"})
    assert "s3cret" not in log.getvalue()
    assert len(lines(log)) == 2


@given(text=st.text(max_size=50))
def test_strangers_text_never_makes_a_line_or_moves_the_cursor(text: str) -> None:
    stream = io.StringIO()
    handlers = logging.getLogger().handlers[:]
    try:
        configure("info", stream)
        logging.getLogger("ipvcs.x").info("said %s", text, extra={"agent": text})
    finally:
        logging.getLogger().handlers[:] = handlers
    assert stream.getvalue().endswith("\n")
    assert stream.getvalue()[:-1].isprintable()


def test_long_values_are_cut(log: io.StringIO) -> None:
    logging.getLogger("ipvcs.x").info("a" * 100_000, extra={"agent": "b" * 100_000})
    assert len(log.getvalue()) < 3000


def test_a_traceback_is_indented(log: io.StringIO) -> None:
    try:
        raise ValueError(f"\x1b[2J\nINFO fake {PEER}")
    except ValueError:
        logging.getLogger("ipvcs.x").exception("a bug")
    first, *rest = lines(log)
    assert first.endswith("ERROR ipvcs.x a bug")
    assert rest
    assert all(line.startswith("  ") and line.isprintable() for line in rest)
    assert str(PEER) not in log.getvalue()


def test_levels_are_set_for_all_or_for_a_subsystem(log: io.StringIO) -> None:
    one, other = logging.getLogger("ipvcs.sub.one"), logging.getLogger("ipvcs.other")
    set_level("all", "error")
    set_level("sub", "debug")  # with or without the prefix, and what is below it
    one.debug("1")
    other.warning("2")
    set_level("ipvcs.sub.one", "error")
    one.warning("3")
    set_level("*", "warn")
    one.warning("4")
    other.info("5")
    assert [line[-1] for line in lines(log)] == ["1", "4"]


def test_libraries_stay_quiet_at_every_level(log: io.StringIO) -> None:
    configure("debug", log)
    logging.getLogger("asyncio").debug("x")
    logging.getLogger("uvicorn.access").info("y")
    logging.getLogger("uvicorn.error").warning("z")
    assert [line[-1] for line in lines(log)] == ["z"]


def test_configuring_again_does_not_write_twice(log: io.StringIO) -> None:
    configure("info", log)
    logging.getLogger("ipvcs.x").info("once")
    assert len(lines(log)) == 1


def test_several_levels_are_given_by_commas_and_all_comes_first() -> None:
    assert parse_levels("node.network=debug, ERROR,") == {"all": "ERROR", "node.network": "debug"}
    assert parse_levels("*=info") == {"all": "info"}
    assert parse_levels("") == {}


@pytest.mark.parametrize("text", ["loud", "node=loud", "=debug", "debug=", "node="])
def test_an_unknown_level_changes_nothing(log: io.StringIO, text: str) -> None:
    with pytest.raises(LogLevelError) as caught:
        configure(f"error,{text}", io.StringIO())
    assert caught.value.hint
    assert caught.value.exit_code == 129
    logging.getLogger("ipvcs.x").info("still here")
    assert len(lines(log)) == 1


def test_subsystems_are_the_loggers_there_are() -> None:
    logging.getLogger("ipvcs.test.deep")
    assert "test.deep" in subsystems()
    assert not any(name.startswith("ipvcs") for name in subsystems())
    for known in ("test.deep", "ipvcs.test", "test", "ipvcs", "all", "*"):
        check_subsystem(known)
    with pytest.raises(LogLevelError, match="unknown subsystem 'tes'"):
        check_subsystem("tes")
