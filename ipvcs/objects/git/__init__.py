"""Git mapping v1: Git objects as IPFS objects and back, bit for bit. docs/git-mapping.md is its normative text."""
