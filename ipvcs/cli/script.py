"""Entry point of the `ipvcs` script: quiet about an interrupt even before there is anything to interrupt.

At first it imports `signal` alone: Python prints a traceback when it is interrupted during an import.
"""

import signal


def main() -> None:
    """Run `ipvcs`, and exit. Until its modules are imported, SIGINT just ends the process."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ipvcs.cli.main import main

    main()
