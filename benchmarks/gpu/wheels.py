"""What a machine with torch, transformers and Lightning still lacks, as wheels."""

import re
import subprocess
import sys
from pathlib import Path

MACHINE = (
    "einops",
    "filelock",
    "huggingface-hub",
    "hypothesis",
    "lightning",
    "matplotlib",
    "numpy",
    "opencv-python-headless",
    "pytest",
    "pyyaml",
    "rich",
    "safetensors",
    "scikit-learn",
    "torch",
    "torchaudio",
    "torchmetrics",
    "transformers",
    "typing-extensions",
)
"""What is there already, of all that this library asks for."""

NEEDED = ("av", "jsonargparse", "docstring-parser", "typeshed-client")
"""What travels: dependencies that are not there, and what these need in turn."""

MIB = 60
"""They may take no more than this together."""

PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)


def requirements(pyproject: Path) -> list[str]:
    """The needed packages, each within the bounds that the project's file gives, if it does."""
    project = pyproject.read_text(encoding="utf-8")
    text = re.search(r"^dependencies = \[\n(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    assert text is not None, f"{pyproject} lists no dependencies"
    bounds = {}
    for name, bound in re.findall(r'^\s*"([\w.-]+)(?:\[[^\]]*\])?([^"]*)"', text[1], re.MULTILINE):
        bounds[name.lower().replace("_", "-")] = bound
    return [name + bounds.get(name, "") for name in NEEDED]


def fetch(folder: Path, pyproject: Path) -> None:
    """Download the wheels for Python 3.12 on Linux.

    Raises:
        SystemExit: pip failed, or they are too large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.whl"):  # two versions of one package would stop the installation
        stale.unlink()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp"]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    done = subprocess.run([*command, "--dest", str(folder), *requirements(pyproject)], check=False)
    if done.returncode:
        raise SystemExit(f"gpu.sh: pip could not fetch {', '.join(NEEDED)}: see above")
    wheels = sorted(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 2**20
    if len(wheels) != len(NEEDED) or size > MIB:
        raise SystemExit(
            f"gpu.sh: {len(wheels)} wheels of {size:.1f} MiB; wanted {len(NEEDED)} below {MIB} MiB"
        )
    print(f"{len(wheels)} wheels, {size:.1f} MiB, in {folder}")


def install(folder: Path, site: Path) -> None:
    """Unpack the wheels of a folder beside the interpreter, without a registry.

    Raises:
        SystemExit: The folder has none, or pip failed.
    """
    wheels = sorted(str(path) for path in folder.glob("*.whl"))
    if not wheels:
        raise SystemExit(
            f"gpu.sh: {folder} holds no wheels; fetch them with benchmarks/gpu.sh --wheels {folder}"
        )
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-cache-dir"]
    done = subprocess.run([*command, "--target", str(site), *wheels], check=False)
    if done.returncode:
        raise SystemExit(f"gpu.sh: pip could not install the wheels of {folder}: see above")
