"""`python -m unvanish`."""

import sys

from unvanish.cli import main

sys.exit(main())
