"""`python -m diffedit`: the command line."""

import sys

from diffedit.commands import main

sys.exit(main())
