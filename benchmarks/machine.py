"""Where figures come from."""

import os
import platform
from pathlib import Path

import torch


def machine(device: str | None = None) -> str:
    """The processor or the GPU, in words; ``None`` means the GPU where there is one."""
    if device == "cuda" or (device is None and torch.cuda.is_available()):
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} cores, torch {torch.__version__}"
