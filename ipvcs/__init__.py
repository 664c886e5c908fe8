"""ipvcs: version control on IPFS."""

__version__ = "0.1.0.dev0"

AGENT_VERSION = f"ipvcs/{__version__}"
"""What a node calls itself to its peers."""
