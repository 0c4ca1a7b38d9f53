"""`diffedit reference-stats`: statistics of real pictures."""

import sys

from diffedit.commands import main

if __name__ == "__main__":
    sys.exit(main(["reference-stats", *sys.argv[1:]]))
