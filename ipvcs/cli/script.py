"""Entry points of the scripts: quiet about an interrupt even before there is anything to interrupt.

At first they import `signal` alone: Python prints a traceback when it is interrupted during an import.
"""

import signal


def main() -> None:
    """Run `ipvcs`, and exit. Until its modules are imported, SIGINT just ends the process."""
    _end_when_interrupted()
    from ipvcs.cli.main import main

    main()


def git_remote() -> None:
    """Answer git as `git-remote-ipfs` or `git-remote-ipns`, and exit. SIGINT as in `main`."""
    _end_when_interrupted()
    from ipvcs.cli.git_remote import main

    main()


def push_receiver() -> None:
    """Work on an offer that a daemon was made, and exit."""
    from ipvcs.cli.push_receiver import main

    main()


def _end_when_interrupted() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
