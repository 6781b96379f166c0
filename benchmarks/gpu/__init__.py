"""All that wants a CUDA device, by one script: `benchmarks/gpu.sh`."""
