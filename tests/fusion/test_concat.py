import torch

from abaw.fusion import ConcatFusion


def test_tells_zeros_from_absence() -> None:
    torch.manual_seed(0)
    head = ConcatFusion(3, 2, 4).eval()
    visual, audio = torch.zeros(1, 5, 3), torch.zeros(1, 5, 2)
    there = torch.ones(1, 5, dtype=torch.bool)
    logits = [head(visual, audio, *masks) for masks in [(there, there), (~there, there), (there, ~there)]]
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        assert (logits[i] - logits[j]).abs().max() > 1e-3


def test_a_frame_does_not_see_its_neighbours() -> None:
    torch.manual_seed(0)
    head = ConcatFusion(3, 2, 4).eval()
    visual, audio, there = torch.randn(1, 5, 3), torch.randn(1, 5, 2), torch.ones(1, 5, dtype=torch.bool)
    alone = [head(visual[:, [i]], audio[:, [i]], there[:, [i]], there[:, [i]]) for i in range(5)]
    torch.testing.assert_close(head(visual, audio, there, there), torch.cat(alone, dim=1))
