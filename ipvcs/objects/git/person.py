"""Who wrote, committed or tagged: `Name <email>`, cut out of a header line.

Spec: DESIGN §3.1 "commit, tag"; git-commit-tree(1), "COMMIT INFORMATION"
"""


def parse_person(ident: bytes) -> bytes | None:
    """Return `Name <email>` of the value of an `author`, `committer` or `tagger` line, bytes unchanged.

    It is everything up to and including the last `>`: what follows is the time, and broken addresses with a further
    `>` inside stay whole. None when there is no `<` before a `>`: such a line names nobody.
    """
    person = ident[: ident.rfind(b">") + 1]
    return person if b"<" in person else None
