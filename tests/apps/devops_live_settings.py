"""The settings of examples/devops, for tests in several processes."""

from devops.settings import *  # noqa: F403
from devops.settings import DATABASES

# Django clones a database for a parallel run by copying its file, without what stands in the write-ahead log.
DATABASES["default"]["OPTIONS"] = {"timeout": 20}
