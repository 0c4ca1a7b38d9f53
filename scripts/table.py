"""`diffedit table`: scores as a table for a paper."""

import sys

from diffedit.commands import main

if __name__ == "__main__":
    sys.exit(main(["table", *sys.argv[1:]]))
