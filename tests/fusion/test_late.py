import torch

from abaw.fusion import LateFusion


def test_averages_the_logits_of_what_is_present() -> None:
    torch.manual_seed(0)
    head = LateFusion(3, 2, 4, hidden=8).eval()
    visual, audio = torch.randn(1, 5, 3), torch.randn(1, 5, 2)
    there = torch.ones(1, 5, dtype=torch.bool)
    face, voice = head(visual, audio, there, ~there), head(visual, audio, ~there, there)
    torch.testing.assert_close(head(visual, audio, there, there), (face + voice) / 2)
    assert (face - voice).abs().max() > 1e-2
    assert not head(visual, audio, ~there, ~there).any()

    sees, hears = torch.tensor([[True, True, False]]), torch.tensor([[True, False, True]])
    mixed = head(visual[:, :3], audio[:, :3], sees, hears)[0]
    torch.testing.assert_close(mixed, torch.stack([(face + voice)[0, 0] / 2, face[0, 1], voice[0, 2]]))


def test_neither_modality_sees_the_other() -> None:
    torch.manual_seed(0)
    head = LateFusion(3, 2, 4, hidden=8).eval()
    audio, there = torch.randn(1, 5, 2), torch.ones(1, 5, dtype=torch.bool)
    one, other = torch.randn(2, 1, 5, 3)
    louder = audio + 1
    torch.testing.assert_close(
        head(one, louder, there, there) - head(one, audio, there, there),
        head(other, louder, there, there) - head(other, audio, there, there),
    )
