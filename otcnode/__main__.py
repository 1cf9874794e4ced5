"""`python -m otcnode` is the command line."""

from otcnode.cli.main import main

if __name__ == "__main__":
    main()
