"""The log of a daemon in the background stays within bounds, and takes the standard streams along."""

import subprocess
import sys
from pathlib import Path

WRITE = """
import logging, os, sys
from pathlib import Path
from ipvcs.api.background_log import BackgroundLog
from ipvcs.api.logs import configure
path, lines = Path(sys.argv[1]), int(sys.argv[2])
configure("info", BackgroundLog(path, 10_000))
log = logging.getLogger("ipvcs.x")
for number in range(lines):
    log.info("line %d \\udc80", number)
os.write(1, b"by stdout\\n"); os.write(2, b"by stderr\\n")
"""


def write(path: Path, lines: int) -> None:
    with path.open("ab") as log:
        subprocess.run([sys.executable, "-c", WRITE, str(path), str(lines)], stdout=log, stderr=log, check=True)


def test_a_short_log_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    log.write_text("before\n")
    write(log, 3)
    lines = log.read_text().splitlines()
    assert lines[0] == "before"
    assert [line.split()[-2] for line in lines[1:4]] == ["0", "1", "2"]
    assert lines[4:] == ["by stdout", "by stderr"]
    assert [path.name for path in tmp_path.iterdir()] == ["daemon.log"]


def test_a_long_log_is_put_aside_and_the_end_is_in_the_new_one(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    write(log, 2000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["daemon.log", "daemon.log.old"]
    assert log.stat().st_size < 10_100
    assert log.with_name("daemon.log.old").stat().st_size <= 10_000
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.read_text().endswith("by stdout\nby stderr\n")
    numbers = [int(line.split()[-2]) for line in log.read_text().splitlines()[:-2]]
    assert numbers == list(range(numbers[0], 2000))


def test_a_log_that_can_not_be_written_is_no_failure(tmp_path: Path) -> None:
    program = WRITE.split("for number")[0] + "os.close(2)\nlog.info('x')\nos.write(1, b'alive')"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "none" / "log"), "1"], capture_output=True, check=True
    )
    assert done.stdout == b"alive"
