"""
Settings of the demonstration project.

Everything has a default that works on a laptop; what differs between machines
comes from the environment:

    DEVOPS_DB          path of the SQLite file             (db.sqlite3 beside manage.py)
    REDIS_URL          channel layer through Redis         (in-memory: one process only)
    DEVOPS_SECRET_KEY  Django's SECRET_KEY                 (a published demo key)
    DEVOPS_HOSTS       further host names, comma separated (loopback only)
    DEVOPS_DEBUG       1 turns Django's debug pages on     (off)
    DEVOPS_PAUSE       seconds between two log lines of a deployment (0.35)
"""

import os
import tempfile
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("DEVOPS_SECRET_KEY", "demo-key-that-everybody-knows-not-for-deployment")
DEBUG = os.environ.get("DEVOPS_DEBUG", "") == "1"
# AllowedHostsOriginValidator compares a WebSocket's Origin with the same list.
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ALLOWED_HOSTS += [host for host in os.environ.get("DEVOPS_HOSTS", "").split(",") if host]

INSTALLED_APPS = [
    # runserver with WebSockets; before django.contrib.staticfiles, which has a runserver of its own.
    "pyasgi",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "servestatic",
    "channels",
    "deploy",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    # Serves STATIC_URL through async file responses: no nginx needed, DEBUG or not.
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "devops.urls"
ASGI_APPLICATION = "devops.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DEVOPS_DB", BASE_DIR / "db.sqlite3"),
        "OPTIONS": {
            # Requests, consumers and deployments write from several threads: readers must
            # not wait for a writer (WAL), and writers queue up instead of failing.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        },
        # A file, not memory: connections that share one in-memory database lock each
        # other's tables without waiting.
        "TEST": {"NAME": Path(tempfile.gettempdir()) / f"devops-test-{os.getpid()}.sqlite3"},
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = os.environ.get("REDIS_URL", "")
if REDIS_URL:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            # channels_redis waits 5 s for a message, as long as redis-py 8 waits for any answer:
            # without a longer socket_timeout, idle consumers die of the race between the two.
            "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": 15}]},
        },
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
# The files are read where the apps keep them, so collectstatic is not a step of `make run`.
SERVESTATIC_USE_FINDERS = True

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "index"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en-us"
USE_TZ = True
TIME_ZONE = "UTC"

DEPLOY_PAUSE = float(os.environ.get("DEVOPS_PAUSE", "0.35"))

# Django prints errors only when DEBUG is on; a server should always tell its operator.
# The root logger belongs to whoever runs us, so only our own names are set up here.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)-8s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        "django": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "deploy": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
    },
}
