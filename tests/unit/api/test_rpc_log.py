"""Shapes: Kubo's core/commands/log.go, logLevelOutput and stringList; the cases are those of its help text and of its
test/cli/log_level_test.go. The key of the default level alone is empty: go-log's DefaultName.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.unit.api.asgi import Response

pytestmark = pytest.mark.anyio
Post = Callable[[str], Awaitable[Response]]
NAMES = ("ipvcs", "ipvcs.test_log", "ipvcs.test_log.inner")


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    manager = logging.getLogger().manager
    ours = {name: logging.getLogger(name) for name in NAMES}
    before = {
        logger: logger.level
        for name, logger in manager.loggerDict.items()
        if isinstance(logger, logging.Logger) and name.partition(".")[0] == "ipvcs"
    }
    ours["ipvcs"].setLevel(logging.WARNING)
    yield
    for logger, level in before.items():
        logger.setLevel(level)


async def test_subsystems_are_our_loggers(call: Post) -> None:
    strings = (await call("log/ls")).json["Strings"]
    assert {"test_log", "test_log.inner"} <= set(strings)
    assert strings == sorted(strings)


async def test_without_arguments_the_default_level_is_told(call: Post) -> None:
    assert (await call("log/level")).json == {"Levels": {"": "warn"}}


@pytest.mark.parametrize("name", ["test_log", "ipvcs.test_log"])
async def test_a_subsystems_level_is_told_and_set(call: Post, name: str) -> None:
    assert (await call(f"log/level?arg={name}")).json == {"Levels": {name: "warn"}}
    answer = (await call(f"log/level?arg={name}&arg=debug")).json
    assert answer == {"Message": f"Changed log level of '{name}' to 'debug'\n"}
    assert (await call(f"log/level?arg={name}")).json == {"Levels": {name: "debug"}}
    assert (await call("log/level?arg=test_log.inner")).json == {"Levels": {"test_log.inner": "debug"}}
    assert (await call("log/level")).json == {"Levels": {"": "warn"}}


@pytest.mark.parametrize("everything", ["all", "*"])
async def test_all_levels_are_told_and_set_at_once(call: Post, everything: str) -> None:
    await call("log/level?arg=test_log&arg=debug")
    levels = (await call(f"log/level?arg={everything}")).json["Levels"]
    assert (levels["(default)"], levels["test_log"]) == ("warn", "debug")
    answer = (await call(f"log/level?arg={everything}&arg=error")).json
    assert answer == {"Message": "Changed log level of '*' to 'error'\n"}
    levels = (await call(f"log/level?arg={everything}")).json["Levels"]
    assert set(levels.values()) == {"error"}


async def test_default_stands_for_the_default_level(call: Post) -> None:
    await call("log/level?arg=test_log&arg=debug")
    answer = (await call("log/level?arg=test_log&arg=default")).json
    assert answer == {"Message": "Changed log level of 'test_log' to 'warn'\n"}


@pytest.mark.parametrize("query", ["arg=nothing", "arg=nothing&arg=debug", "arg=test_log&arg=loud"])
async def test_what_there_is_not_is_the_clients_fault(call: Post, query: str) -> None:
    response = await call(f"log/level?{query}")
    assert (response.status, response.json["Code"]) == (400, 1)
    assert response.json["Hint"]
