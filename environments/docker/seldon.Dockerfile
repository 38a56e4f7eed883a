# A bundle behind Seldon Core's Python wrapper, which is under the Business Source License 1.1.
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/seatrial
WORKDIR /src
COPY environments/seldon.lock environments/
RUN /opt/seatrial/bin/pip install --constraint environments/seldon.lock setuptools
COPY pyproject.toml README.md LICENSE ./
COPY components components
COPY pipelines pipelines
COPY seatrial seatrial
COPY serving serving
RUN /opt/seatrial/bin/pip install --no-build-isolation --constraint environments/seldon.lock ".[seldon]"

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp seatrial
COPY --from=build /opt/seatrial /opt/seatrial
# The root file system is read-only at run time: caches go to /tmp, byte code is there already.
ENV PATH=/opt/seatrial/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
# Ports and parameters come as Seldon's environment variables.
ENTRYPOINT ["seldon-core-microservice", "serving.seldon.model.BundleModel", "--service-type", "MODEL"]
