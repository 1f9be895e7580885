# The REST API as a container, for those who do not run it as a function.
# `docker build -f docker/control-plane.Dockerfile .`
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /app
COPY pyproject.toml ./
# The pins of the distribution and of this plane, without the distribution: it holds the sandbox.
RUN ["python", "-c", "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['control-plane'], sep='\\n', file=open('requirements.txt', 'w'))"]
RUN python -m venv /opt/zapgate \
 && /opt/zapgate/bin/pip install --no-cache-dir --only-binary=:all: -r requirements.txt \
 && /opt/zapgate/bin/pip uninstall --yes pip setuptools \
 && rm pyproject.toml requirements.txt
COPY shared/ shared/
COPY control_plane/ control_plane/
# The root file system is read-only where this runs: nothing can be compiled later.
RUN ["/opt/zapgate/bin/python", "-m", "compileall", "-q", "."]

FROM python:${PYTHON}
COPY --from=build /opt/zapgate /opt/zapgate
COPY --from=build /app /app
ENV PATH=/opt/zapgate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# Exec form: SIGTERM reaches uvicorn, which finishes the requests it has (`Prefer: wait` among them).
ENTRYPOINT ["uvicorn", "--factory", "control_plane.app:create_app", "--host", "0.0.0.0", "--port", "8000", "--no-server-header", "--no-access-log", "--timeout-graceful-shutdown", "35"]
