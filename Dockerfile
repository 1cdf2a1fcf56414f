# Darkroom, installed from its locks into a slim image.
#
#   docker build -t darkroom .
#   docker run -p 8080:8080 -v darkroom:/data -e AIMLAPI_API_KEY \
#     -e DARKROOM__SERVER__PUBLIC_URL=http://localhost:8080 darkroom
#
# DARKROOM__SERVER__PUBLIC_URL is the base of the image addresses in answers, as callers reach it. There is no default:
# a wrong one gives addresses that lead nowhere. A configuration file may be mounted at /etc/darkroom/config.yaml.

FROM python:3.11-slim-bookworm AS build

WORKDIR /src
COPY requirements-build.txt requirements-otel.txt ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.txt \
    && python -m venv --without-pip /opt/darkroom \
    && /opt/build/bin/uv pip install --no-cache --compile-bytecode --python /opt/darkroom/bin/python \
        --require-hashes -r requirements-otel.txt
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
RUN /opt/build/bin/uv build --no-cache --wheel --no-build-isolation --python /opt/build/bin/python --out-dir /tmp/dist \
    && /opt/build/bin/uv pip install --no-cache --compile-bytecode --python /opt/darkroom/bin/python \
        --no-deps /tmp/dist/*.whl

FROM python:3.11-slim-bookworm

RUN groupadd --gid 10001 darkroom \
    && useradd --uid 10001 --gid darkroom --no-create-home --home-dir /data --shell /usr/sbin/nologin darkroom \
    && install -d -o darkroom -g darkroom -m 0700 /data \
    && install -d /etc/darkroom
COPY --from=build /opt/darkroom /opt/darkroom

ENV PATH=/opt/darkroom/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DARKROOM__DATA_DIR=/data

WORKDIR /etc/darkroom
USER 10001:10001
VOLUME /data
EXPOSE 8080

HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('DARKROOM__SERVER__PORT', '8080')}/livez\", timeout=4)"]

# On SIGTERM open purchases get server.drain_s (60 s) to finish: stop it with `docker stop --time 75`.
ENTRYPOINT ["darkroom"]
CMD ["serve", "--host", "0.0.0.0"]
