"""`python -m opdsl ...`: the same as the command `opdsl`."""

import sys

from opdsl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
