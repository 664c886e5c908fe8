"""Progress in git's manner."""

from ipvcs.git_bridge.progress import GitProgress


def test_it_is_one_line_that_ends_with_done() -> None:
    now, written = [0.0], list[str]()
    progress = GitProgress("Converting objects", written.append, lambda: now[0])
    for done in range(1, 1001):
        now[0] += 0.001
        progress(done, 1000)
    assert written[0] == "Converting objects:   6% (64/1000)\r"
    assert written[-1] == "Converting objects: 100% (1000/1000), done.\n"
    assert len(written) < 13
    assert all(line.endswith("\r") for line in written[:-1])


def test_without_a_total_it_counts() -> None:
    now, written = [0.0], list[str]()
    progress = GitProgress("Receiving objects", written.append, lambda: now[0])
    for done in range(1, 201):
        now[0] += 0.01
        progress(done, 0)
    progress(200, 200)
    assert written == [
        "Receiving objects: 64\r",
        "Receiving objects: 128\r",
        "Receiving objects: 192\r",
        "Receiving objects: 100% (200/200), done.\n",
    ]


def test_what_is_over_before_a_delay_is_not_shown() -> None:
    now, written = [10.0], list[str]()
    progress = GitProgress("Storing", written.append, lambda: now[0], delay=1)
    progress(64, 128)
    now[0] = 10.9
    progress(128, 128)
    assert written == []
    now[0] = 11.1
    progress(64, 128)
    progress(128, 128)
    assert written == ["Storing:  50% (64/128)\r", "Storing: 100% (128/128), done.\n"]


def test_what_is_done_at_once_is_one_line() -> None:
    written: list[str] = []
    GitProgress("Converting objects", written.append, lambda: 0.0)(1, 1)
    assert written == ["Converting objects: 100% (1/1), done.\n"]
