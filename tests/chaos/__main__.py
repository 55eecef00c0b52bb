"""Run the scenarios and print their table: ``python -m tests.chaos [--seed N] [--only NAME]...``."""

import sys

from tests.chaos.matrix import main

if __name__ == "__main__":
    sys.exit(main())
