# A small image that runs `etl`, as a user who is not root, on a root file system that is read only:
#
#     docker build -t etl .
#     docker run --rm --read-only --memory 160m --memory-swap 160m \
#         -v "$PWD/input:/input:ro" -v etl-work:/work etl run /input/job.toml
#
# The database, the checkpoint and what the sink writes belong into the volume /work, which is the current directory:
# there they survive the container, and there the writing is flushed behind, which a layer of a container may not allow.

# Any image with Python 3.11 or newer, its module venv, and certificates.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
ARG EXTRAS=fast
# pip's own settings, for a house with an index of its own: --build-arg PIP_INDEX_URL=…
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
RUN python3 -m venv /opt/etl
COPY pyproject.toml constraints.txt README.md LICENSE /src/
COPY etl /src/etl
COPY sinks /src/sinks
# Compiled here: a root file system that is read only keeps no bytecode. pip is of no use later.
RUN /opt/etl/bin/python -m pip install --no-cache-dir --disable-pip-version-check -c /src/constraints.txt "/src[${EXTRAS}]" \
    && /opt/etl/bin/python -m pip uninstall --yes --quiet pip

FROM ${BASE}
COPY --from=build /opt/etl /opt/etl
ENV PATH=/opt/etl/bin:$PATH
# A number, because Kubernetes cannot tell of a name that it is not root (runAsNonRoot).
RUN mkdir /work && chown 1000:1000 /work
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["etl"]
CMD ["--help"]
