#!/usr/bin/env bash
# From daphne to cdaphne, from beginning to end: makes a fresh Django project with the chat application of
# examples/chat on the real daphne, runs its tests, swaps in cdaphne by one word of the settings, runs the tests
# again, and has two tabs of a Chromium talk through `runserver` and through the command.
#
#     examples/migrate.sh [FOLDER]
#
# FOLDER (a temporary one by default) gets the project and a virtual environment. PYTHON=.venv/bin/python
# lends that environment's packages, cdaphne among them, to the new one; without it they are installed.
# Needs chromium, chromedriver and access to PyPI. Exit status 0 when every step has worked.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$(mktemp -d)}
server=
say() { printf '\n==== %s\n' "$*"; }
stop() {
    if [ -n "$server" ]; then
        kill -TERM -- "-$server" 2>/dev/null || true
        wait "$server" || true
        server=
    fi
}
trap stop EXIT

if ! command -v chromedriver >/dev/null; then
    echo "migrate.sh: chromedriver is not installed: apt-get install chromium chromium-driver" >&2
    exit 1
fi

say "a virtual environment in $folder/venv, with daphne"
python=$folder/venv/bin/python
"${PYTHON:-python3}" -m venv "$folder/venv"
if [ -n "${PYTHON:-}" ]; then
    site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$PYTHON" -c 'import sys; print(*filter(None, sys.path), sep="\n")' >"$site/lent.pth"
    echo "$root" >>"$site/lent.pth"
else
    "$python" -m pip install --quiet django channels selenium
fi
"$python" -m pip install --quiet --disable-pip-version-check 'daphne==4.2.*'

say "django-admin startproject, and the chat"
cd "$folder"
"$python" -m django startproject mysite "$folder"
cp -R "$root/examples/chat/chat" .
cp "$root/examples/chat/mysite/asgi.py" "$root/examples/chat/mysite/urls.py" mysite/
cat >>mysite/settings.py <<'SETTINGS'

INSTALLED_APPS = ["daphne", "chat", *INSTALLED_APPS]
ASGI_APPLICATION = "mysite.asgi.application"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
# A file: a server in a process of its own cannot see a database in the memory of the tests.
DATABASES["default"]["TEST"] = {"NAME": BASE_DIR / "test.sqlite3"}
SETTINGS
"$python" manage.py migrate --verbosity 0

say "its tests on daphne"
"$python" -c 'import daphne; assert not hasattr(daphne, "__cdaphne__"); print("daphne", daphne.__version__)'
"$python" manage.py test --no-color

say "cdaphne in place of daphne, and one word"
"$python" -m pip uninstall --quiet --yes daphne autobahn Twisted
[ -n "${PYTHON:-}" ] || "$python" -m pip install --quiet "$root"
cp mysite/settings.py settings.before
sed -i 's/"daphne"/"pyasgi"/' mysite/settings.py
changed=$(diff settings.before mysite/settings.py || true)
echo "$changed"
[ "$(grep -c '^>' <<<"$changed")" = 1 ]

say "its tests on cdaphne"
"$python" manage.py check
"$python" manage.py test --no-color

free_port() { "$python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
talk_through() {  # NAME COMMAND...: a server of its own process group, two tabs, and the end of it
    local name=$1 port
    shift
    port=$(free_port)
    say "two tabs through $name"
    setsid "${@//PORT/$port}" >"$folder/$name.log" 2>&1 &
    server=$!
    "$python" - "$port" <<'WAIT'
import socket, sys, time
for attempt in range(600):
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
        sys.exit(0)
    except ConnectionRefusedError:
        time.sleep(0.1)
sys.exit("the server does not accept connections")
WAIT
    "$python" -m chat.browser "http://127.0.0.1:$port" || { cat "$folder/$name.log" >&2; exit 1; }
    stop
    grep -E 'WebSocket CONNECT|WSCONNECT ' "$folder/$name.log"
}
talk_through runserver "$python" manage.py runserver 127.0.0.1:PORT
talk_through command "$python" -m pyasgi -b 127.0.0.1 -p PORT mysite.asgi:application

say "done: the project runs on cdaphne"
