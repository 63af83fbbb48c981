"""``python -m service.cli``: the command line where no script ``t1t2`` is on the path, as in a job on a cluster."""

import sys

from service.cli.app import main

sys.exit(main())
