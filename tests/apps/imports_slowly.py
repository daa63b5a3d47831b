"""An application whose import waits for the signal that a test sends."""

from __future__ import annotations

import sys
import time

print("importing", file=sys.stderr, flush=True)
time.sleep(60)
