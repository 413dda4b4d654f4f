"""`unvanish.nn.init` under its short name, for `from unvanish.init import …`."""

import sys

from unvanish.nn import init
from unvanish.nn.init import *  # noqa: F403

sys.modules[__name__] = init  # one module, whichever way it is asked for
