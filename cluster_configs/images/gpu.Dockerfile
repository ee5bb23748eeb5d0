# LatentScale with Ray, S3 and cuML for GPU workers (CUDA 13).
#   docker build -f cluster_configs/images/gpu.Dockerfile -t REGISTRY/latentscale-gpu:0.1.0 .
# CUDA's libraries come as wheels from the lock; the driver comes from the node (GPU operator or device plugin).
# BASE: ../README.md says where the digest comes from and how to check it. All images take the same base: Ray wants
# the same Python on every node.
ARG BASE=python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_LINK_MODE=copy
WORKDIR /build
COPY requirements/image-build.lock requirements/
RUN python3 -m venv /opt/build && /opt/build/bin/pip install --quiet --require-hashes -r requirements/image-build.lock
# Byte code is compiled now: the root file system is read-only later, and without it imports take ten times as long.
COPY requirements/image-gpu.lock requirements/
RUN python3 -m venv --without-pip /opt/latentscale/venv \
 && /opt/build/bin/uv pip install --quiet --python /opt/latentscale/venv/bin/python --compile-bytecode \
    --require-hashes -r requirements/image-gpu.lock
# The wheel's build makes the viewer's page with Node from the build environment; npm takes what package-lock.json has hashes for.
COPY pyproject.toml hatch_build.py README.md LICENSE NOTICE ./
COPY latentscale latentscale
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
 && /opt/build/bin/uv pip install --quiet --python /opt/latentscale/venv/bin/python --compile-bytecode --no-deps /dist/*.whl
COPY jobs /opt/latentscale/jobs

FROM ${BASE} AS run
LABEL org.opencontainers.image.title="latentscale-gpu" org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 latentscale && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp latentscale
COPY --from=build /opt/latentscale /opt/latentscale
ENV PATH=/opt/latentscale/venv/bin:$PATH PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0 HOME=/tmp \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /opt/latentscale
# By number, so that Kubernetes can check runAsNonRoot.
USER 10001:10001
CMD ["latentscale", "doctor"]
