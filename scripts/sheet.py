"""`diffedit sheet`: a contact sheet of finished runs."""

import sys

from diffedit.commands import main

if __name__ == "__main__":
    sys.exit(main(["sheet", *sys.argv[1:]]))
