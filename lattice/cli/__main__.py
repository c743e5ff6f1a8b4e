"""``python -m lattice.cli``: the same as ``lattice``, by the interpreter that is running."""

from lattice.cli.main import main

if __name__ == "__main__":
    main()
