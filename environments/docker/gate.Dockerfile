# The gate with its dead-man, the retrain receiver, the dead-letter sink and the command line.
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
RUN /opt/seatrial/bin/pip install --no-build-isolation --constraint environments/main.lock ".[local,predictor]"

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d
# Commit mode speaks to a Git repository.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git openssh-client \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp seatrial
COPY --from=build /opt/seatrial /opt/seatrial
# The root file system is read-only at run time: caches go to /tmp, byte code is there already.
ENV PATH=/opt/seatrial/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["python", "-m", "seatrial"]
