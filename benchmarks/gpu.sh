#!/usr/bin/env bash
# All that wants a CUDA device, in one run of under 8 minutes:
#   benchmarks/gpu.sh --wheels DIR    beforehand, where there is a network: fetch what the machine lacks
#   benchmarks/gpu.sh --from DIR      there: measure, and write benchmarks/results/<device>.md
#   benchmarks/gpu.sh --small         the same with tiny sizes on a CPU, in two minutes
# See benchmarks/README.md. PYTHON names another interpreter than python3.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1
exec "${PYTHON:-python3}" -m gpu "$@"
