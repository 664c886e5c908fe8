"""`python -m ipvcs`."""

from ipvcs.cli.main import main

main()
