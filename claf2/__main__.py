"""``python -m claf2``, and ``torchrun -m claf2``: the command line."""

from __future__ import annotations

from claf2.cli.main import main

if __name__ == "__main__":
    main()
