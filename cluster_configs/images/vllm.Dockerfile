# LatentScale with Ray, S3 and vLLM for workers that run language models.
#   docker build -f cluster_configs/images/vllm.Dockerfile -t REGISTRY/latentscale-vllm:0.1.0 .
# An image of its own: cuML needs numba below 0.65 and vLLM needs 0.65.0. The tag of gcc is that of Debian 12, whose
# compiler does not change; Triton compiles its kernels with it where they run.
# BASE: ../README.md says where the digest comes from and how to check it. All images take the same base: Ray wants
# the same Python on every node.
ARG BASE=python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_LINK_MODE=copy
WORKDIR /build
COPY requirements/image-build.lock requirements/
RUN python3 -m venv /opt/build && /opt/build/bin/pip install --quiet --require-hashes -r requirements/image-build.lock
# Byte code is compiled now: the root file system is read-only later, and without it imports take ten times as long.
COPY requirements/image-vllm.lock requirements/
RUN python3 -m venv --without-pip /opt/latentscale/venv \
 && /opt/build/bin/uv pip install --quiet --python /opt/latentscale/venv/bin/python --compile-bytecode \
    --require-hashes -r requirements/image-vllm.lock
# The wheel's build makes the viewer's page with Node from the build environment; npm takes what package-lock.json has hashes for.
COPY pyproject.toml hatch_build.py README.md LICENSE NOTICE ./
COPY latentscale latentscale
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
 && /opt/build/bin/uv pip install --quiet --python /opt/latentscale/venv/bin/python --compile-bytecode --no-deps /dist/*.whl
COPY jobs /opt/latentscale/jobs

FROM ${BASE} AS run
LABEL org.opencontainers.image.title="latentscale-vllm" org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update && apt-get install --yes --no-install-recommends gcc=4:12.2.0-3 libc6-dev \
 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 latentscale && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp latentscale
COPY --from=build /opt/latentscale /opt/latentscale
ENV PATH=/opt/latentscale/venv/bin:$PATH PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0 HOME=/tmp \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
WORKDIR /opt/latentscale
# By number, so that Kubernetes can check runAsNonRoot.
USER 10001:10001
CMD ["latentscale", "doctor"]
