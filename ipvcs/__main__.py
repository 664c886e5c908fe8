"""`python -m ipvcs`."""

from ipvcs.cli.script import main

main()
