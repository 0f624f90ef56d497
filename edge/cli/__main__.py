"""`python -m edge.cli` is the command `reconf`."""

from edge.cli.main import main

if __name__ == "__main__":
    main()
