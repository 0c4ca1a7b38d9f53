"""`diffedit plot`: plot the trade-off of scored runs."""

import sys

from diffedit.commands import main

if __name__ == "__main__":
    sys.exit(main(["plot", *sys.argv[1:]]))
