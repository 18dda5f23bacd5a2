#!/usr/bin/env bash
# What jaxprim does on a GPU, in one command: bash benchmarks/gpu/run.sh
#
# It needs a GPU, nvcc, and a Python that has JAX 0.11 or later for it (PYTHON, else python3). It installs nothing and asks no
# network. Options go to run.py: --json FILE, --platform cpu, and names of parts.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT
export PYTHONPATH="$root/src:$root${PYTHONPATH:+:$PYTHONPATH}"
export JAXPRIM_CACHE="${JAXPRIM_CACHE:-$cache}"
export XLA_PYTHON_CLIENT_PREALLOCATE=false # the tests run in a process of their own, beside this one
"${PYTHON:-python3}" -m benchmarks.gpu.run "$@"
