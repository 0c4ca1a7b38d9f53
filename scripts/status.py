"""`diffedit status`: how far runs are."""

import sys

from diffedit.commands import main

if __name__ == "__main__":
    sys.exit(main(["status", *sys.argv[1:]]))
