"""`unvanish.remedies.penalty` under its short name, for `from unvanish.penalty import …`."""

import sys

from unvanish.remedies import penalty
from unvanish.remedies.penalty import *  # noqa: F403

sys.modules[__name__] = penalty  # one module, whichever way it is asked for
