"""`python -m otcnode` is the command line."""

from otcnode.cli.main import main

main()
