"""`diffedit edit`: edit one picture."""

import sys

from diffedit.commands import main

if __name__ == "__main__":
    sys.exit(main(["edit", *sys.argv[1:]]))
