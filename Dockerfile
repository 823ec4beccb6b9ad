# One image for every command. It runs as a user of its own, and keeps what must outlive
# a container (ledger, store of webhooks) in the volume /data:
#
#   docker build --tag singer-stairoids .
#   docker run --rm singer-stairoids target-stairoids --about
#   docker run --volume stairoids:/data --env-file .env --publish 127.0.0.1:8880:8880 \
#     --stop-timeout 15 singer-stairoids stairoids-webhooks serve --host 0.0.0.0
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
COPY stairoids_pages stairoids_pages
COPY stairoids_sandbox stairoids_sandbox
COPY tap_stairoids_webhooks tap_stairoids_webhooks
COPY target_stairoids target_stairoids
RUN uv sync --locked --no-dev --all-extras --no-editable

FROM python:3.13-slim
RUN useradd --uid 10001 --user-group --create-home stairoids \
    && install --directory --owner=stairoids --group=stairoids --mode=0700 /data
COPY --from=build /opt/stairoids /opt/stairoids
ENV PATH=/opt/stairoids/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
CMD ["target-stairoids", "--help"]
