"""`diffedit report`: a page on runs, to look at."""

import sys

from diffedit.commands import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
