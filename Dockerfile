# reg_d2 for CUDA clusters.
#
#   docker build -t reg_d2 .
#   docker run --gpus all --shm-size 8g -v "$PWD/datasets:/data:ro" -v "$PWD/output:/opt/reg_d2/output" \
#       reg_d2 --config-file configs/REG-A-R18.yaml --num-gpus 8 OUTPUT_DIR output/a
#
# A plain Python image is enough: the lock's torch wheels bring the CUDA, cuDNN and NCCL libraries, and the host's
# driver comes in through the NVIDIA container toolkit. No compiler either: what the lock has as source is pure Python.
# No libGL: OpenCV is the headless build.
FROM python:3.11-slim

ARG UV_VERSION=0.13.9
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    VIRTUAL_ENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    # under `--user`, too, where there is no home to write to
    MPLCONFIGDIR=/tmp/matplotlib \
    FVCORE_CACHE=/tmp/fvcore \
    USER=reg \
    REG_D2_DATASETS=/data

WORKDIR /opt/reg_d2
RUN python -m venv /opt/venv && pip install --no-cache-dir uv==${UV_VERSION}

# pyproject.toml tells uv how pb1-detectron2 is built. This layer changes with the lock only. Compiled here, once: the
# container's user cannot keep what Python compiles, and would wait for it at every start.
COPY pyproject.toml requirements.lock ./
RUN uv pip sync --no-cache --compile-bytecode requirements.lock

COPY setup.py README.md LICENSE ./
COPY reg_d2 reg_d2
COPY configs configs
COPY tools tools
COPY projects projects
RUN uv pip install --no-cache --no-deps --no-build-isolation -e . \
    && useradd --create-home --uid 1000 reg \
    && mkdir -p /data output \
    && chown reg:reg output

USER reg
ENTRYPOINT ["python", "tools/train_net.py"]
CMD ["--help"]
