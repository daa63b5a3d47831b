"""How much memory a server may take for what one peer does."""

from __future__ import annotations

import os

MIB = 1 << 20
# By how much the server's memory may grow; AddressSanitizer keeps 256 MiB of freed memory.
ROOM = (400 if "asan" in os.environ.get("LD_PRELOAD", "") else 8) * MIB
