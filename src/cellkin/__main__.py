"""`python -m cellkin` is the command `cellkin`."""

from cellkin.cli.main import main

main()
