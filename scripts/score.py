"""`diffedit score`: score finished runs."""

import sys

from diffedit.commands import main

if __name__ == "__main__":
    sys.exit(main(["score", *sys.argv[1:]]))
