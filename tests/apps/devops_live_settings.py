"""The settings of examples/devops with one word more: what is tested here is how a project uses cdaphne."""

from devops.settings import *  # noqa: F403
from devops.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = ["pyasgi", *INSTALLED_APPS]
# Django clones a database for a parallel run by copying its file, without what stands in the write-ahead log.
DATABASES["default"]["OPTIONS"] = {"timeout": 20}
