# One image for every command, and of it two that are Airbyte connectors. It runs as a user of its own, and keeps what must outlive
# a container (ledger, store of webhooks) in the volume /data:
#
#   docker build --tag singer-stairoids .
#   docker run --rm singer-stairoids target-stairoids --about
#   docker run --volume stairoids:/data --env-file .env --publish 127.0.0.1:8880:8880 \
#     --stop-timeout 15 singer-stairoids stairoids-webhooks serve --host 0.0.0.0
#   docker build --tag destination-stairoids --target destination-stairoids .
#   docker build --tag source-stairoids-webhooks --target source-stairoids-webhooks .
#
# The pages of receiver and sandbox answer their own machine only, which in a container
# is the container; on Linux `--network host` makes it yours.

FROM python:3.13-slim AS build
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PROJECT_ENVIRONMENT=/opt/stairoids \
    UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir 'uv>=0.8'
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./
# The dependencies are a layer of their own: they change less often than the code.
RUN uv sync --locked --no-dev --all-extras --no-install-project
COPY stairoids_airbyte stairoids_airbyte
COPY stairoids_common stairoids_common
COPY stairoids_pages stairoids_pages
COPY stairoids_sandbox stairoids_sandbox
COPY tap_stairoids_webhooks tap_stairoids_webhooks
COPY target_stairoids target_stairoids
RUN uv sync --locked --no-dev --all-extras --no-editable

FROM python:3.13-slim AS commands
RUN useradd --uid 10001 --user-group --create-home stairoids \
    && install --directory --owner=stairoids --group=stairoids --mode=0700 /data
COPY --from=build /opt/stairoids /opt/stairoids
ENV PATH=/opt/stairoids/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data

# The receiver. `docker build --target receiver .`
FROM commands AS receiver
EXPOSE 8880
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8880/healthz', timeout=4)"]
CMD ["stairoids-webhooks", "serve", "--host", "0.0.0.0"]

# Airbyte appends the command and its files. It mounts its files wherever it likes, as
# root, so they are read by anybody's user.
FROM commands AS destination-stairoids
ENV AIRBYTE_ENTRYPOINT="destination-stairoids"
ENTRYPOINT ["destination-stairoids"]
LABEL io.airbyte.name=singer-stairoids/destination-stairoids \
      io.airbyte.version=0.1.0

FROM commands AS source-stairoids-webhooks
ENV AIRBYTE_ENTRYPOINT="source-stairoids-webhooks"
ENTRYPOINT ["source-stairoids-webhooks"]
LABEL io.airbyte.name=singer-stairoids/source-stairoids-webhooks \
      io.airbyte.version=0.1.0

# The last one is what is built unless a target is named.
FROM commands
CMD ["target-stairoids", "--help"]
