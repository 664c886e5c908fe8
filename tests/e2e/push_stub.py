"""`ipvcs` whose receivers are stand-ins, which say their pid and ignore SIGTERM: `python -m tests.e2e.push_stub`."""

from ipvcs.api import receiver_process
from ipvcs.cli.script import main

STUB = """\
import os, signal, sys, time
sys.path.append(sys.argv.pop(1))
from ipvcs.git_bridge.push_replies import Progress, encode_reply
from ipvcs.node.network.delimited import encode_delimited
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdin.buffer.read()
os.write(1, encode_delimited(encode_reply(Progress(str(os.getpid())))))
while True:
    time.sleep(100)
"""

if __name__ == "__main__":
    receiver_process._LAUNCHER = STUB  # type: ignore[misc]
    main()
