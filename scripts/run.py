"""`diffedit run`: edit every request of a benchmark at every ratio; go on where a killed run stopped."""

import sys

from diffedit.commands import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
