"""`diffedit demo`: edit, score and plot Still Life; ends with a page. A second call is quick."""

import sys

from diffedit.commands import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
