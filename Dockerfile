# The gateway as a small image: no secrets in it, not root, one process.
#
#   docker build -t wecom-gateway .
#   docker run --rm wecom-gateway keygen

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY nginx nginx
RUN python -m venv /opt/wecom-gateway && /opt/wecom-gateway/bin/pip install --no-cache-dir '.[redis]'

FROM python:3.11-slim-bookworm
# The number is fixed: files mounted as secrets must be readable by it.
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin wecom \
    && install -d -o wecom -g wecom -m 0700 /var/lib/wecom-gateway
COPY --from=build /opt/wecom-gateway /opt/wecom-gateway
ENV PATH=/opt/wecom-gateway/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER wecom
# The ledger: what is revoked, and who signed in when.
VOLUME /var/lib/wecom-gateway
# Check and pages, for nginx only: publish neither.
EXPOSE 9180 9181
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9182/healthz', timeout=2)"]
ENTRYPOINT ["wecom-gateway"]
CMD ["serve"]
