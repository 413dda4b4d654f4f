"""`unvanish.remedies.pace` under its short name, for `from unvanish.pace import …`."""

import sys

from unvanish.remedies import pace
from unvanish.remedies.pace import *  # noqa: F403

sys.modules[__name__] = pace  # one module, whichever way it is asked for
