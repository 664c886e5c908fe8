"""ipvcs: version control on IPFS."""

__version__ = "0.1.0.dev0"
