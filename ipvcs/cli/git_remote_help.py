"""What `git-remote-ipfs --help` prints: imported by nobody else, so that git need not wait for it."""

from typing import Final

HELP: Final = """\
NAME
    git-remote-ipfs, git-remote-ipns - let git push to names on IPFS, and clone by them

SYNOPSIS
    git clone ipfs::/ipns/<name>[/<path>] [<directory>]
    git remote add <remote> ipfs::/ipns/<name>[/<path>]
    git push ipfs::/ipns/self <branch>

    git-remote-ipfs [<remote>] <URL>    as git runs it: the protocol on standard input and output

DESCRIPTION
    Git runs this program by itself for each remote whose URL is one of

    ipfs::/ipns/<name>[/<path>]   what is behind a name; who has its key can push to it, and others
                                  if its node lets them (`ipvcs access`)
    ipns://<name>[/<path>]        the same, as a URL, in which odd characters are written as %XX
    ipfs::/ipfs/<cid>[/<path>]    one state for ever; read-only
    ipfs://<cid>[/<path>]         the same, as a URL

    <name> is a NodeId, the name of a key of this home (`ipvcs key list`; `self` is the home's
    own), or a domain with a DNSLink. Several repositories can lie behind one name, each at a
    <path>.

    Fetching needs a node that knows somebody who has the repository. A running `ipvcs daemon` is
    used; where none runs, one is started in the background. What was pushed can be fetched by
    others as long as a daemon serves it.

OPTIONS
    -h, --help      Print this, and stop.

    Options of git's own commands work as with any remote: --force, --force-with-lease, --atomic,
    --mirror, --dry-run, --quiet, --progress, --depth, --deepen, --unshallow. Not there yet:
    --filter, --shallow-since, --shallow-exclude.

ENVIRONMENT
    IPVCS_PATH              The home, with keys, blocks and settings.  [default: `ipvcs` in the
                            user's data directory]
    IPVCS_FETCH             `packs`, or `objects`: fetch each object by itself, from the object
                            graph. A part of a history always comes so.  [default: whichever suits]
    IPVCS_NO_DAEMON         1: start no daemon; the node lives within the command, and ends with it.
    IPVCS_PASSPHRASE        The passphrase of the home's keys, where they have one.
    IPVCS_PASSPHRASE_FILE   A file with it.

CONFIGURATION
    Of git's configuration it heeds fetch.fsckObjects and transfer.fsckObjects;
    init.defaultBranch, for the HEAD of a repository that is new; and what concerns packing.

EXIT STATUS
    0       Git got its answers. That a ref was refused is one, and makes git's own status 1.
    128     Something failed; standard error says what, and what to try next.
    129     It was not called as git calls it, or a variable has a value that it can't have.
    130     It was interrupted. Other signals: 128 and the signal's number.

EXAMPLES
    $ ipvcs daemon &
    $ git push ipfs::/ipns/self main              # publish
    $ ipvcs id                                    # the NodeId, for others

    $ git clone ipfs::/ipns/12D3KooW...           # elsewhere
    $ ipvcs log /ipns/12D3KooW... main            # or without git
    $ ipvcs get -o files /ipns/12D3KooW.../heads/main

SEE ALSO
    ipvcs --help, gitremote-helpers(7); docs/git.md says what a push publishes.
"""
