# Two images from one lock: `serve` answers, `pipeline` is the environment of dvc repro, of the retrainer
# and of the MLflow server. No syntax that needs BuildKit.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${PYTHON_IMAGE} AS base
ENV PATH=/opt/venv/bin:$PATH

FROM base AS runtime
# Nothing is written but into /tmp and /var/lib/heart. MLflow's clients get files from its server: they
# may neither reach the bucket behind it nor have its keys.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib DVC_SITE_CACHE_DIR=/tmp/dvc \
    MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD=false \
    MLFLOW_DISABLE_TELEMETRY=true DVC_NO_ANALYTICS=1 ORT_DISABLE_TELEMETRY=1 \
    GRADIO_ANALYTICS_ENABLED=False HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_OFFLINE=1
RUN groupadd --gid 1000 heart \
 && useradd --uid 1000 --gid heart --home-dir /var/lib/heart --shell /usr/sbin/nologin heart \
 && install -d -o heart -g heart /var/lib/heart

FROM base AS serve-packages
ARG PIP_CERT
# serve, or fhir for HEART_FHIR and HEART_CDS_HOOKS, which includes it.
ARG SERVE_PACKAGES=serve
COPY requirements/hashes /requirements/hashes
COPY requirements/install.py requirements/serve.txt requirements/fhir.txt requirements/lock.txt /requirements/
# uv and pip go at the end: nothing more can be installed into what is served.
RUN python -m venv /opt/venv \
 && /opt/venv/bin/python /requirements/install.py ${SERVE_PACKAGES} --compile-bytecode \
 && pip uninstall --yes setuptools uv pip

FROM runtime AS serve
COPY --from=serve-packages /opt/venv /opt/venv
COPY heart /app/heart
COPY serve /app/serve
COPY monitoring /app/monitoring
ENV PYTHONPATH=/app HEART_HOST=0.0.0.0 HEART_PORT=8000
WORKDIR /var/lib/heart
VOLUME /var/lib/heart
USER 1000:1000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as http; http.urlopen(f\"http://127.0.0.1:{os.environ['HEART_PORT']}/health/ready\", timeout=5)"]
CMD ["python", "-m", "serve"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="heart-disease serve" \
      org.opencontainers.image.description="Risk of coronary artery disease: API, page, metrics. Not a medical device." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM base AS pipeline-packages
ARG PIP_CERT
# The CPU build: the package index's own brings gigabytes of CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements /requirements
RUN python -m venv /opt/venv \
 && /opt/venv/bin/python /requirements/install.py torch --no-deps --default-index "${TORCH_INDEX}" \
 && /opt/venv/bin/python /requirements/install.py pipeline serve stack --compile-bytecode

FROM runtime AS pipeline
# The project itself comes by git: what is registered names the commit that made it.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends git \
 && rm -rf /var/lib/apt/lists/* \
 && git config --system safe.directory '*' \
 && git config --system user.name heart \
 && git config --system user.email heart@localhost
COPY --from=pipeline-packages /opt/venv /opt/venv
COPY deploy/clone.sh deploy/buckets.py deploy/mlflow /opt/heart/
WORKDIR /var/lib/heart
USER 1000:1000
ENTRYPOINT ["/opt/heart/clone.sh"]
CMD ["dvc", "repro"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="heart-disease pipeline" \
      org.opencontainers.image.description="The environment of the pipeline, the retrainer and the MLflow server." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
