"""`unvanish.remedies.clip` under its short name, for `from unvanish.clip import …`."""

import sys

from unvanish.remedies import clip
from unvanish.remedies.clip import *  # noqa: F403

sys.modules[__name__] = clip  # one module, whichever way it is asked for
