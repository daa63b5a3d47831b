"""cdaphne under daphne's name; every module of this package is one of pyasgi's."""

import sys

from pyasgi import compat

compat.become_daphne(sys.modules[__name__])
