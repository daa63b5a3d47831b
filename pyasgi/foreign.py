"""What the flags of uvicorn, gunicorn, hypercorn, granian and daphne are called here, or what does their work.

    hint("--host")       "here it is --bind"
    hint("--workers")    what to do instead
    hint("--xyzzy")      None

flags.py asks for a flag that the command line does not know, config.py for a key of a file or of the environment.
"""

from __future__ import annotations

# Flags of others that do the same as one of ours, with the same kind of value.
RENAMED = {
    "--host": "--bind",
    "--uds": "--unix-socket",
    "--uds-permissions": "--unix-socket-mode",
    "--user": "--unix-socket-user",
    "--group": "--unix-socket-group",
    "--access-logfile": "--access-log",
    "--access-logformat": "--access-log-format",
    "--access-log-fmt": "--access-log-format",
    "--log-config-json": "--log-config",
    "--timeout-keep-alive": "--keep-alive-timeout",
    "--keepalive": "--keep-alive-timeout",
    "--timeout-graceful-shutdown": "--graceful-timeout",
    "--http1-header-read-timeout": "--head-timeout",
    "--asgi-lifespan": "--lifespan",
    "--asgi-disconnect-grace-period": "--application-close-timeout",
    "--limit-request-line": "--max-target-size",
    "--limit-request-fields": "--max-header-count",
    "--limit-request-field_size": "--max-head-size",
    "--h11-max-incomplete-event-size": "--max-head-size",
    "--http2-max-headers-size": "--max-head-size",
    "--http2-max-header-list-size": "--max-head-size",
    "--http2-max-concurrent-streams": "--http2-max-streams",
    "--http2-initial-stream-window-size": "--http2-stream-window",
    "--http2-initial-window-size": "--http2-stream-window",
    "--http2-initial-connection-window-size": "--http2-connection-window",
    "--http2-cleartext": "--http2-upgrade",
    "--ws-max-size": "--websocket-max-message-size",
    "--ws-max-queue": "--websocket-high-water",
    "--ws-ping-interval": "--ping-interval",
    "--ws-ping-timeout": "--ping-timeout",
    "--websocket-ping-interval": "--ping-interval",
    "--proxy-allow-from": "--forwarded-allow-ips",
    "--url-path-prefix": "--root-path",
    "--no-server-header": "--no-server-name",
    "--check-config": "--check",
    "--ssl-keyfile": "--keyfile",
    "--ssl-certfile": "--certfile",
    "--ssl-certificate": "--certfile",
    "--ssl-keyfile-password": "--keyfile-password",
    "--ssl-cert-reqs": "--cert-reqs",
    "--ssl-ca-certs": "--ca-certs",
    "--ssl-ca": "--ca-certs",
    "--ca-file": "--ca-certs",
    "--ssl-crl": "--crlfile",
    "--ssl-ciphers": "--ciphers",
    "--ssl-protocol-min": "--ssl-min-version",
}

SEVERAL = (
    "one process runs one event loop; let the process manager start several on one socket"
    " (supervisor's fcgi-program with numprocs=N and --fd 0, a systemd socket unit: docs/deploy.rst)"
)
RELOADING = (
    "for development there is 'manage.py runserver' with \"pyasgi\" in INSTALLED_APPS,"
    " or a watcher that restarts it: watchfiles 'cdaphne ...'"
)
RESTARTING = (
    "the process manager restarts a process (docs/deploy.rst); none ends after a number of requests"
)
THREADS = "the environment variable ASGI_THREADS is the number of threads for synchronous code"
VERBOSITY = "give --verbosity: 0 for warnings, 1 for info, 2 for debug; or levels in the file of --log-config"
DIRECTORY = "start it in that directory, or set PYTHONPATH"
VARIABLES = "set the variables in the process manager (systemd: EnvironmentFile=)"
FACTORY = "name what the factory returns: application = create_application() in a module"
LOOP = "there is one event loop, pyasgi.loop.EventLoop"
HTTP = "there is one HTTP implementation, in C; it speaks HTTP/1.1 and, without --no-http2, HTTP/2"
WEBSOCKET = "there is one WebSocket implementation, in C, and it is always on"
BACKGROUND = "let a process manager keep it in the background (docs/deploy.rst)"
PID_FILE = (
    "a process manager knows the process (docs/deploy.rst); the first log lines have its number"
)
COLOURS = "colours are on when stderr is a terminal; NO_COLOR=1 switches them off"
SERVER_LOG = "messages go to stderr; give --log-config for files (docs/logging.rst)"
SYSLOG = (
    "give --access-log syslog: for the access log, and a SysLogHandler in the file of --log-config"
)
METRICS = "the server counts nothing; let a middleware of the application do so"
STATIC = "static files are the application's (servestatic, whitenoise) or the proxy's (docs/deploy/nginx.rst)"
MODE = "give --unix-socket-mode, which is the mode itself: 660 for a umask of 117"
CERTIFICATES = "give --cert-reqs none, optional, required or report"
COMPRESSION = "give --websocket-deflate or --no-websocket-deflate"
BACKLOG = (
    "write it in an endpoint: -e tcp:8000:backlog=4096 (default 2048, cut to net.core.somaxconn)"
)
TIMEOUT = (
    "give --http-timeout for the time that a request may take; a blocked process is restarted by systemd's"
    " WatchdogSec= (docs/deploy/systemd.rst)"
)
CONFIG = "give --config FILE, a TOML file with the names of the flags (docs/flags.rst)"
CONCURRENCY = "give --max-connections, which counts connections; more of them wait in the backlog"
RULES = "the rules of HTTP are not relaxed"

# Flags whose purpose is served in another way here, or not at all.
OTHERWISE = {
    "--workers": SEVERAL,
    "--worker-class": SEVERAL,
    "--preload": SEVERAL,
    "--reuse-port": SEVERAL,
    "--threads": THREADS,
    "--blocking-threads": THREADS,
    "--runtime-blocking-threads": THREADS,
    "--runtime-threads": SEVERAL,
    "--runtime-mode": SEVERAL,
    "--reload": RELOADING,
    "--no-reload": "it does not reload",
    "--max-requests": RESTARTING,
    "--limit-max-requests": RESTARTING,
    "--respawn-failed-workers": RESTARTING,
    "--no-respawn-failed-workers": RESTARTING,
    "--timeout": TIMEOUT,
    "--timeout-worker-healthcheck": TIMEOUT,
    "--backlog": BACKLOG,
    "--backpressure": CONCURRENCY,
    "--limit-concurrency": CONCURRENCY,
    "--worker-connections": CONCURRENCY,
    "--log-level": VERBOSITY,
    "--loglevel": VERBOSITY,
    "--log": VERBOSITY,
    "--no-log": "give --verbosity 0, which logs warnings and errors only",
    "--debug": "give --verbosity 2 for every step, 3 also for asyncio's debug mode",
    "--log-file": SERVER_LOG,
    "--error-log": SERVER_LOG,
    "--error-logfile": SERVER_LOG,
    "--capture-output": SERVER_LOG,
    "--logger-class": SERVER_LOG,
    "--log-config-dict": SERVER_LOG,
    "--log-syslog": SYSLOG,
    "--factory": FACTORY,
    "--no-factory": "it never calls a factory",
    "--app-dir": DIRECTORY,
    "--chdir": DIRECTORY,
    "--working-dir": DIRECTORY,
    "--pythonpath": DIRECTORY,
    "--env": VARIABLES,
    "--env-file": VARIABLES,
    "--env-files": VARIABLES,
    "--interface": "ASGI 2 and ASGI 3 applications are told apart; WSGI ones need asgiref.wsgi.WsgiToAsgi",
    "--loop": LOOP,
    "--asgi-loop": LOOP,
    "--task-impl": LOOP,
    "--http": HTTP,
    "--http-parser": HTTP,
    "--http-protocols": HTTP,
    "--protocol": HTTP,
    "--ws": WEBSOCKET,
    "--no-ws": WEBSOCKET,
    "--ws-per-message-deflate": COMPRESSION,
    "--quic-bind": "HTTP/3 is not spoken",
    "--insecure-bind": "give an endpoint without TLS: -e tcp:80",
    "--daemon": BACKGROUND,
    "--pid": PID_FILE,
    "--pid-file": PID_FILE,
    "--name": PID_FILE,
    "--process-name": PID_FILE,
    "--use-colors": COLOURS,
    "--no-use-colors": COLOURS,
    "--header": "let a middleware of the application or the proxy add headers to responses",
    "--server-header": "give --server-name for another value, --no-server-name for none",
    "--reset-contextvars": "each request already runs in a context of its own",
    "--read-timeout": "give --head-timeout and --body-timeout",
    "--http1-keep-alive": "give --keep-alive-timeout; there is no way to switch kept connections off",
    "--no-http1-keep-alive": "give --keep-alive-timeout; there is no way to switch kept connections off",
    "--umask": MODE,
    "--ssl-version": "give --ssl-min-version 1.2 or 1.3",
    "--ssl-client-verify": CERTIFICATES,
    "--no-ssl-client-verify": CERTIFICATES,
    "--verify-mode": CERTIFICATES,
    "--print-config": "give --check, which tells what is wrong",
}
# The same for all flags that begin so, where no row of their own is above.
FAMILIES = {
    "--asgi-": "there is no counterpart; the flags are in docs/flags.rst",
    "--control-socket": "signals and the process manager control it (docs/deploy.rst)",
    "--no-control-socket": "signals and the process manager control it (docs/deploy.rst)",
    "--dirty-": "long work belongs into a task queue (Celery, RQ, Django's tasks)",
    "--reload-": RELOADING,
    "--no-reload-": RELOADING,
    "--max-requests-": RESTARTING,
    "--limit-max-requests-": RESTARTING,
    "--workers-": RESTARTING,
    "--worker-": SEVERAL,
    "--respawn-": RESTARTING,
    "--rss-": RESTARTING,
    "--blocking-threads-": THREADS,
    "--log-syslog-": SYSLOG,
    "--statsd-": METRICS,
    "--dogstatsd-": METRICS,
    "--metrics": METRICS,
    "--no-metrics": METRICS,
    "--static-path-": STATIC,
    "--paste": FACTORY,
    "--permit-": RULES,
    "--casefold-": RULES,
    "--strip-": RULES,
    "--header-map": RULES,
    "--http1-": "there is no counterpart; the flags of HTTP are in docs/flags.rst",
    "--no-http1-": "there is no counterpart; the flags of HTTP are in docs/flags.rst",
    "--http2-": "there is no counterpart; the flags of HTTP/2 are in docs/flags.rst",
    "--no-http2-": "there is no counterpart; the flags of HTTP/2 are in docs/flags.rst",
}
# Flags of one letter that are not ours; gunicorn's and hypercorn's.
LETTERS = {
    "-w": SEVERAL,
    "-k": SEVERAL,
    "-c": CONFIG,
    "-D": BACKGROUND,
    "-g": "give --unix-socket-group",
    "-m": MODE,
    "-n": PID_FILE,
    "-R": SERVER_LOG,
}


def hint(flag: str) -> str | None:
    """What to do here in place of another server's flag; None for a flag that none of them has."""
    if flag in RENAMED:
        return f"here it is {RENAMED[flag]}"
    if flag in OTHERWISE or flag in LETTERS:
        return OTHERWISE.get(flag) or LETTERS[flag]
    families = [begin for begin in FAMILIES if flag.startswith(begin)]
    return FAMILIES[max(families, key=len)] if families else None
