# The companion alone: OpenSIPS and Redis are containers of their own, see compose.yaml and docs/install.md.
ARG PYTHON_TAG=3.12-slim-bookworm

FROM python:${PYTHON_TAG} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements-dashboard.lock packaging/build.lock ./
RUN python -m venv --without-pip /opt/companion \
    && pip --python /opt/companion/bin/python install --require-hashes -r requirements-dashboard.lock \
    && pip install --require-hashes -r build.lock
COPY pyproject.toml README.md LICENSE ./
COPY companion companion
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && pip --python /opt/companion/bin/python install --no-deps /dist/*.whl \
    && /opt/companion/bin/companion check-config

FROM python:${PYTHON_TAG}
ARG VERSION=1.0.0
LABEL org.opencontainers.image.title="OpenSIPS Companion" \
      org.opencontainers.image.description="Last-mile visibility and care for the SIP and WebRTC devices behind OpenSIPS" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/companion /opt/companion
ENV PATH=/opt/companion/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# A config.toml mounted here is read; without one the defaults and COMPANION_SECTION__KEY hold.
WORKDIR /etc/opensips-companion
USER 10001:10001
STOPSIGNAL SIGTERM
# The API answers on loopback unless told otherwise, so the check runs in here. http.client minds no proxy settings.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection; api = HTTPConnection('127.0.0.1', 8780, timeout=3); api.request('GET', '/healthz'); raise SystemExit(api.getresponse().status != 200)"]
ENTRYPOINT ["companion"]
CMD ["run"]
