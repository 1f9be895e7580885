# The gateway: commands in, sockets out. `docker build -f docker/gateway.Dockerfile .`
# Debian, not Alpine: neonize's Go library comes in a wheel for glibc only.
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /app
COPY pyproject.toml ./
# The pins of the distribution and of this plane, without the distribution: it holds the sandbox.
RUN ["python", "-c", "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['gateway'], *p['optional-dependencies']['postgres'], sep='\\n', file=open('requirements.txt', 'w'))"]
RUN python -m venv /opt/zapgate \
 && /opt/zapgate/bin/pip install --no-cache-dir --only-binary=:all: -r requirements.txt \
 && /opt/zapgate/bin/pip uninstall --yes pip setuptools \
 && rm pyproject.toml requirements.txt
COPY shared/ shared/
COPY gateway/ gateway/
# The root file system is read-only where this runs: nothing can be compiled later.
RUN ["/opt/zapgate/bin/python", "-m", "compileall", "-q", "."]
RUN mkdir -m 0700 /devices && chown 10001:10001 /devices

FROM python:${PYTHON}
COPY --from=build /opt/zapgate /opt/zapgate
COPY --from=build /app /app
COPY --from=build --chown=10001:10001 /devices /devices
ENV PATH=/opt/zapgate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NEONIZE_BOT_TAG=off \
    GOMEMLIMIT=64MiB \
    ZAPGATE_DEVICE_STORE=/devices
WORKDIR /app
# Declared, so that a volume put there is writable for the user below (Fargate copies the mode).
VOLUME ["/devices", "/tmp"]
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
# Exec form: SIGTERM reaches Python, which hands over its shards and empties its outbox.
ENTRYPOINT ["python", "-m", "gateway"]
