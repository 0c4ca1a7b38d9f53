"""`diffedit doctor`: look at a model before it is used."""

import sys

from diffedit.commands import main

if __name__ == "__main__":
    sys.exit(main(["doctor", *sys.argv[1:]]))
