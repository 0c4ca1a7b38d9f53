"""`diffedit check-benchmark`: open every picture and mask that a benchmark wants."""

import sys

from diffedit.commands import main

if __name__ == "__main__":
    sys.exit(main(["check-benchmark", *sys.argv[1:]]))
