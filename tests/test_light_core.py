"""What another project takes of abaw works where torch, einops and numpy are all there is."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest

from abaw.cli import PACKAGES

ROOT = Path(__file__).parents[1]


def installed_with(*packages: str) -> set[str]:
    """Names of distributions: these, and what they depend on."""
    found: set[str] = set()
    waiting = list(packages)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            needs = requires(name) or []
        except PackageNotFoundError:
            continue
        found.add(name)
        waiting += [re.split(r"[^\w.-]", line)[0] for line in needs if "extra ==" not in line]
    return found


def run_without_the_rest(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python where nothing but torch, einops and numpy is installed."""
    light = installed_with("torch", "einops", "numpy")
    rest = {
        module
        for module, names in packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", name).lower() for name in names} & light and module != "abaw"
    }
    assert {"lightning", "transformers", "torchmetrics", "torchaudio", "av", "cv2", "yaml"} <= rest
    hide = f"""
import sys
from importlib.machinery import PathFinder

class Light:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in {rest!r} else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Light
"""
    command = [sys.executable, "-c", hide + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


PARTS = """
import torch
from abaw import EXPRESSIONS, IGNORE_INDEX
from abaw.data import Batch
from abaw.encoders import ConvVisualEncoder, FrameEncoder, PrecomputedEncoder, SoundEncoder
from abaw.fusion import (
    ConcatFusion, CrossAttentionFusion, DualBranchTransformer, GatedFusion, LateFusion, ModalityDropout,
    SafeCrossAttention,
)
from abaw.losses import BalancedSoftmaxLoss, FocalLoss, LogitAdjustedLoss, class_weights
from abaw.postprocess import SoftVoting, fit_bias, smooth, viterbi, window_starts
from abaw.testing import check_fusion_head

faces, voices = torch.randn(2, 5, 8, requires_grad=True), torch.randn(2, 3, 8)
SafeCrossAttention(8, 2)(faces, voices, context_mask=torch.zeros(2, 3, dtype=torch.bool)).sum().backward()
assert faces.grad.isfinite().all()
present = torch.rand(2, 5) < 0.5
video_mask, audio_mask = ModalityDropout(p_visual=0.5)(present, torch.ones_like(present))
for head in (ConcatFusion, CrossAttentionFusion, DualBranchTransformer, GatedFusion, LateFusion):
    logits = head(8, 8, 4)(torch.randn(2, 5, 8), torch.randn(2, 5, 8), video_mask, audio_mask)
    for loss in (FocalLoss(), LogitAdjustedLoss([4, 3, 2, 1]), BalancedSoftmaxLoss([4, 3, 2, 1])):
        loss(logits, torch.tensor([[0, 1, 2, 3, IGNORE_INDEX]] * 2)).backward(retain_graph=True)
assert len(class_weights([4, 3, 2, 1])) == 4
check_fusion_head(LateFusion(6, 5, 4))
starts = window_starts(9, window=5, stride=2)
voting = SoftVoting(9, 4, window=5, weighting="hann")
voting.add(torch.randn(len(starts), 5, 4), starts)
scores, covered = voting.finish()
assert covered.all() and smooth(scores).shape == (9, 4)
ConvVisualEncoder(8)(torch.zeros(1, 2, 3, 16, 16, dtype=torch.uint8), torch.ones(1, 2, dtype=torch.bool))
"""


@pytest.mark.slow
def test_the_parts_need_torch_einops_and_numpy_alone() -> None:
    done = run_without_the_rest(PARTS)
    assert done.returncode == 0, done.stderr


COMMANDS = """
from abaw.cli import main
assert main(["--help"]) == 0
for command in (["fit", "--config=a.yaml"], ["predict", "--run=a"], ["synth", "a"]):
    assert main(command) == 2
"""


def test_a_command_says_in_a_line_what_to_install() -> None:
    done = run_without_the_rest(COMMANDS)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert re.fullmatch(r"abaw: error: [\w-]+ is not installed, .*: pip install abaw", line)


def test_what_the_commands_need_is_installed_with_them() -> None:
    block = (ROOT / "pyproject.toml").read_text().split("\ndependencies = [\n")[1].split("\n]\n")[0]
    needed = set(re.findall(r'^  "([\w.-]+)', block, re.MULTILINE))
    assert needed == {*PACKAGES.values(), "torch", "einops", "numpy", "typing-extensions"}
