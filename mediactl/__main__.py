"""`python -m mediactl`: the same as the `mediactl` command."""

import sys

from mediactl.cli import main

if __name__ == "__main__":
    sys.exit(main())
