# The pipelines' steps, training on NVIDIA GPUs where there are some.
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/seatrial
WORKDIR /src
COPY environments/main.lock environments/
RUN /opt/seatrial/bin/pip install --constraint environments/main.lock setuptools
COPY pyproject.toml README.md LICENSE ./
COPY components components
COPY pipelines pipelines
COPY seatrial seatrial
COPY serving serving
# pip takes torch's CUDA build, which pins the CUDA libraries that go with it.
RUN /opt/seatrial/bin/pip install --no-build-isolation --constraint environments/main.lock ".[pipelines]"

FROM nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04@sha256:14d94b039cb94bbd5da559f303b46bc4b0d5d6c24ab1a9d7b186e566ed3400dc
# The same interpreter as in the build; Ubuntu has no Python 3.11. Its libc is newer than Debian's.
COPY --from=build /usr/local/bin /usr/local/bin
COPY --from=build /usr/local/lib /usr/local/lib
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates libbz2-1.0 libffi8 liblzma5 libreadline8t64 libsqlite3-0 libssl3t64 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && ldconfig
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp seatrial
COPY --from=build /opt/seatrial /opt/seatrial
# The root file system is read-only at run time: caches go to /tmp, byte code is there already.
ENV PATH=/opt/seatrial/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["python"]
