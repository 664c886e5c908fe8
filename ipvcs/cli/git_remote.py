"""Entry point of `git-remote-ipfs` and `git-remote-ipns`, which git runs for `ipfs::…` and `ipns://…` remotes."""

import sys


def main() -> None:
    """Tell git that this version can't reach remotes yet. The helper's protocol comes with the node (see README)."""
    sys.stdout.close()
    print("error: this version of ipvcs has no git remote helper yet", file=sys.stderr)
    print("hint: README says what works; `ipvcs --help` lists the commands", file=sys.stderr)
    sys.exit(128)
