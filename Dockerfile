# One image for all of Evergrant's processes; docker-compose.yml says which one a container runs.

FROM python:3.13-slim AS packages
# --require-hashes: the same packages, to the byte, on every build.
COPY requirements.txt /
RUN python3 -m venv /venv \
 && /venv/bin/python -m pip install --disable-pip-version-check --no-cache-dir --quiet \
      --require-hashes --no-deps -r /requirements.txt

FROM python:3.13-slim
RUN groupadd --gid 10001 evergrant \
 && useradd --uid 10001 --gid evergrant --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin evergrant \
 # A volume that is new takes its owner from the folder that it covers.
 && install -d -o evergrant -g evergrant -m 700 /var/lib/evergrant
COPY --from=packages /venv /venv
WORKDIR /app
COPY settings.py celeryconfig.py flowerconfig.py ./
COPY doctor doctor
COPY evergrant evergrant
COPY fleet fleet
COPY models models
COPY sandbox sandbox
COPY web web
COPY workers workers
# Compiled here, since the container's user may not write; by content, so that a rebuild gives the same files.
RUN /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash .
COPY evergrant/evergrant.sh /venv/bin/evergrant
ENV PATH=/venv/bin:$PATH EVERGRANT_ROOT=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    BIND=0.0.0.0 EVERGRANT_HOME=/var/lib/evergrant
USER evergrant
CMD ["python", "-m", "evergrant", "run", "web"]
