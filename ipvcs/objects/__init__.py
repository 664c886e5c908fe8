"""The Merkle DAG: codecs, UnixFS, import and export, commits and the Git mapping. No I/O."""
