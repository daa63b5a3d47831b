# The demonstration of examples/devops on cdaphne, built from this source. As a pattern for an application of your own:
# replace what is below examples/, and install cdaphne from PyPI in the first stage.
#
#   docker build -t devops . && docker run --rm -p 127.0.0.1:8000:8000 devops
FROM python:3.13-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends \
        build-essential pkg-config libev-dev libnghttp2-dev libssl-dev zlib1g-dev && \
    rm -rf /var/lib/apt/lists/*
RUN python -m venv /srv/venv
WORKDIR /srv/source
COPY examples/devops/requirements.txt examples/devops/requirements.txt
RUN /srv/venv/bin/python -m pip install --no-cache-dir -r examples/devops/requirements.txt
COPY pyproject.toml setup.py MANIFEST.in README.rst LICENSE ./
COPY scripts scripts
COPY csrc csrc
COPY pyasgi pyasgi
RUN /srv/venv/bin/python -m pip install --no-cache-dir .

FROM python:3.13-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libev4 libnghttp2-14 libssl3 zlib1g && \
    rm -rf /var/lib/apt/lists/* && install -d -o 10001 -g 10001 /srv/data
# The path stays the same, because the scripts of a virtual environment name it.
COPY --from=build /srv/venv /srv/venv
COPY examples/devops /srv/site
WORKDIR /srv/site
ENV PATH=/srv/venv/bin:$PATH DEVOPS_DB=/srv/data/db.sqlite3 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
RUN python manage.py migrate -v 0 && python manage.py demo_data
EXPOSE 8000
# cdaphne is process 1 and needs no init: a stop ends by itself in 9 seconds, and `docker stop` kills after 10.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/login/', timeout=3)"]
CMD ["cdaphne", "-b", "0.0.0.0", "-p", "8000", "devops.asgi:application"]
