# The server in a container: docker build -t topcoat . (CPU), or with --build-arg BASE=cuda (NVIDIA GPUs).
ARG BASE=cpu

FROM python:3.12-slim-bookworm AS cpu
# PyTorch's own index has builds without CUDA, which are gigabytes smaller.
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

FROM nvidia/cuda:12.8.1-base-ubuntu24.04 AS cuda
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

# hadolint ignore=DL3006
FROM ${BASE} AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python3 -m venv /opt/topcoat \
    && /opt/topcoat/bin/pip install --no-cache-dir --constraint constraints.txt '.[models,serve,page]'

# hadolint ignore=DL3006
FROM ${BASE}
COPY --from=build /opt/topcoat /opt/topcoat
RUN groupadd --gid 10001 topcoat \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin topcoat \
    && mkdir /models \
    && chown topcoat:topcoat /models
ENV PATH=/opt/topcoat/bin:$PATH \
    HF_HOME=/models \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /home/topcoat
VOLUME /models
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["topcoat"]
# Inside a container every address is another machine's, so a key is asked for.
CMD ["serve", "--host", "0.0.0.0", "--api-key-file", "/run/secrets/topcoat-keys"]
