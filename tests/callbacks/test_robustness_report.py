import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import distributed, multiprocessing, nn
from torch.utils.data import DataLoader

from abaw import ExpressionModule
from abaw.callbacks import RobustnessReport, SlidingWindowInference
from abaw.encoders import PrecomputedEncoder
from abaw.engine import VideoFeatures
from abaw.errors import InputError
from abaw.fusion import FusionHead
from abaw.robustness import DAMAGES

CLASSES = 8
MODALITIES = ["audio+video", "video only", "audio only"]


class FrameHead(FusionHead):
    """Looks at each frame alone, so that any reference can tell what its windows vote."""

    def __init__(self, visual_dim: int, audio_dim: int, num_classes: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(visual_dim + audio_dim + 2, num_classes)
        self.frames_seen = 0

    def forward(self, visual, audio, video_mask, audio_mask, time=None, frame_mask=None):
        masks = torch.stack([video_mask, audio_mask], dim=-1).float()
        self.frames_seen += int(frame_mask.sum())
        return self.linear(torch.cat([visual, audio, masks], dim=-1))


class Deaf(FrameHead):
    """Can't bear a window without a voice."""

    def forward(self, visual, audio, video_mask, audio_mask, time=None, frame_mask=None):
        logits = super().forward(visual, audio, video_mask, audio_mask, time, frame_mask)
        return logits / audio_mask.any(-1).float()[:, None, None]


class Fragile(FrameHead):
    """Can't bear a black picture where it was told of a face; others about it are well."""

    def forward(self, visual, audio, video_mask, audio_mask, time=None, frame_mask=None):
        logits = super().forward(visual, audio, video_mask, audio_mask, time, frame_mask)
        black = video_mask & (visual == 0).all(-1)
        alone = black & (torch.arange(black.shape[1]) == 0)
        return logits.masked_fill(alone[..., None], torch.nan)


LENGTHS = {"c": 90, "a": 60, "b": 40}


def make_videos(lengths: dict[str, int] = LENGTHS, annotated: bool = True) -> list[VideoFeatures]:
    videos = []
    for number, (name, frames) in enumerate(lengths.items()):
        generator = torch.Generator().manual_seed(number)
        face = torch.rand(frames, generator=generator) > 0.2
        target = torch.randint(-1, CLASSES if annotated else 0, (frames,), generator=generator)
        videos.append(
            VideoFeatures(
                name,
                3 * torch.randn(frames, 3, generator=generator) * face[:, None],
                3 * torch.randn(frames, 2, generator=generator),
                face,
                torch.ones(frames, dtype=torch.bool),
                torch.arange(frames, dtype=torch.float64) / 25,
                target,
                lead=0.5,
            )
        )
    return videos


def make_loader(videos: list[VideoFeatures]) -> DataLoader:
    """Each video in one chunk, as an evaluation loader of computed features emits it."""
    batches = [
        {
            "visual_features": video.visual[None],
            "audio_features": video.audio[None],
            "video_mask": video.video_mask[None],
            "audio_mask": video.audio_mask[None],
            "time": (0.5 + video.time.float())[None],
            "target": video.target[None],
            "frame": torch.arange(video.num_frames)[None],
            "video_id": [video.video_id],
            "audio_start": [-0.5],
            "num_frames": [video.num_frames],
        }
        for video in videos
    ]
    return DataLoader(batches, batch_size=None)


def module_with(head: type[FrameHead] = FrameHead, video: bool = True, audio: bool = True):
    return ExpressionModule(
        PrecomputedEncoder(3) if video else None,
        PrecomputedEncoder(2) if audio else None,
        head(3 if video else 1, 2 if audio else 1, CLASSES),
    )


def run(folder: Path, module=None, videos=None, report=None, stride=4, **options) -> dict:
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        callbacks=[SlidingWindowInference(window=8, stride=stride), report or RobustnessReport()],
        **options,
    )
    trainer.test(module or module_with(), make_loader(videos or make_videos()), verbose=False)
    path = folder / "robustness" / "robustness.json"
    return json.loads(path.read_text()) if path.exists() else {}


def reference_f1(videos: list[VideoFeatures]) -> float:
    """The head sees each frame alone: all windows agree, and their vote is the head's own answer."""
    linear = FrameHead(3, 2, CLASSES).linear
    truth, answers = [], []
    for video in videos:
        masks = np.stack([video.video_mask.numpy(), video.audio_mask.numpy()], axis=-1)
        inputs = np.concatenate([video.visual.numpy(), video.audio.numpy(), masks], axis=-1)
        logits = inputs @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
        counted = video.target.numpy() >= 0
        truth.append(video.target.numpy()[counted])
        answers.append(logits.argmax(-1)[counted])
    truth, answers = np.concatenate(truth), np.concatenate(answers)
    return f1_score(truth, answers, labels=range(CLASSES), average="macro", zero_division=0)


def test_every_condition_scores_what_the_head_says_of_the_damaged_features(tmp_path, capsys):
    report = run(tmp_path, report=RobustnessReport(seed=5))
    videos = make_videos()
    expected = {
        "audio+video": reference_f1(videos),
        "video only": reference_f1([video.without_audio() for video in videos]),
        "audio only": reference_f1([video.without_video() for video in videos]),
    } | {damage.name: reference_f1([damage.apply(video, 5) for video in videos]) for damage in DAMAGES}
    results = report["results"]
    assert list(results) == list(expected)
    assert {name: results[name]["f1"] for name in results} == pytest.approx(expected)
    assert len(set(expected.values())) > 40, "what is compared differs"
    assert (report["seed"], report["videos"], report["left_out"]) == (5, 3, [])
    assert len(report["curves"]) == 9


def test_another_seed_loses_other_frames(tmp_path, capsys):
    one, same, other = (
        run(tmp_path / str(n), report=RobustnessReport(seed))["results"] for n, seed in enumerate((0, 0, 1))
    )
    assert one == same
    assert one["audio+video"] == other["audio+video"]
    assert one["video lost at random 0.5"] != other["video lost at random 0.5"]


def test_encoders_run_once(tmp_path, monkeypatch, capsys):
    seen = []
    encode = ExpressionModule.encode
    monkeypatch.setattr(
        ExpressionModule, "encode", lambda self, batch: seen.append(batch["video_id"]) or encode(self, batch)
    )
    module = module_with()
    run(tmp_path, module)
    assert seen == [["c"], ["a"], ["b"]]
    # 22, 14 and 9 windows of 8 frames, under each condition, and no more than once.
    assert module.fusion.frames_seen == 8 * (22 + 14 + 9) * (len(DAMAGES) + 3)


def test_the_tables_say_every_figure_once(tmp_path, capsys):
    report = run(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    results, curves = report["results"], report["curves"]
    rows = {}
    for line in lines:
        found = [name for name in (*results, *curves) if line.startswith(f"{name} ")]
        if found and (name := max(found, key=len)):
            assert name not in rows
            rows[name] = line.removeprefix(name).split()
    shifts = [name for name in results if name.startswith("audio shifted")]
    assert rows.keys() == {*MODALITIES, *shifts, *curves} - {"audio shifted"}
    for name in (*MODALITIES, *shifts):
        figures = results[name]
        low, high = figures["f1_interval"]
        expected = [f"{figures['f1']:.3f}", f"{low:.3f}–{high:.3f}"]
        if name != "audio+video":
            low, high = figures["f1_change_interval"]
            expected += [f"{figures['f1_change']:+.3f}", f"{low:+.3f}…{high:+.3f}"]
        assert rows[name] == expected
    for name, curve in curves.items():
        if name != "audio shifted":
            assert rows[name] == [f"{f1:.3f}" for f1 in (*curve["f1"], curve["area"])]
    assert str(tmp_path / "robustness") in lines[-1]
    assert "left out" not in " ".join(lines)


def test_the_picture_is_drawn_and_nothing_else_is_left(tmp_path, capsys):
    run(tmp_path)
    folder = tmp_path / "robustness"
    assert sorted(path.name for path in folder.iterdir()) == ["robustness.json", "robustness.png"]
    picture = cv2.imread(str(folder / "robustness.png"))
    assert picture.shape[1] > 3 * 300
    assert picture.std() > 5


def test_the_picture_has_a_panel_a_stream_and_a_curve_a_loss(tmp_path, capsys):
    report = run(tmp_path)
    panels = RobustnessReport().draw(report).axes
    drawn = [line for panel in panels for line in panel.lines]
    assert len(panels) == 3
    assert [len(panel.lines) for panel in panels] == [4, 4, 1]
    assert [len(panel.collections) for panel in panels] == [4, 4, 1], "a band a curve"
    for line, (name, curve) in zip(drawn, report["curves"].items(), strict=True):
        assert line.get_label().startswith(f"{name}: mean {curve['area']:.3f}")
        assert list(line.get_xdata()) == curve["severity"]
        assert list(line.get_ydata()) == curve["f1"]


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_a_model_of_one_modality_is_asked_what_makes_sense(tmp_path, capsys, modality):
    report = run(tmp_path, module_with(video=modality == "video", audio=modality == "audio"))
    losses = [damage.name for damage in DAMAGES if damage.name.startswith(f"{modality} ")]
    losses = [name for name in losses if "shifted" not in name]
    assert list(report["results"]) == [f"{modality} only", *losses]
    assert report["undamaged"] == f"{modality} only"
    assert len(report["left_out"]) == 49 - 21
    assert not set(report["left_out"]) & set(report["results"])
    words = " ".join(capsys.readouterr().out.split())
    assert f"takes {modality} only: 28 conditions that need more are left out" in words
    assert [len(panel.lines) for panel in RobustnessReport().draw(report).axes] == [4]


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (Deaf, r"^[abc], (video only|audio lost)"),
        (Fragile, r"^[abc], video zeroed unannounced \d\.\d: \d+ scores"),
    ],
)
def test_a_score_that_is_not_finite_names_condition_and_video(tmp_path, capsys, head, words):
    with pytest.warns(UserWarning, match="not finite"), pytest.raises(InputError, match=words) as raised:
        run(tmp_path, module_with(head))
    assert "not finite" in str(raised.value)
    assert not (tmp_path / "robustness").exists()


def test_broken_weights_are_told_at_the_first_video(tmp_path, capsys):
    module = module_with()
    with torch.no_grad():
        module.fusion.linear.bias[3] = torch.nan
    with pytest.warns(UserWarning, match="not finite"), pytest.raises(InputError, match=r"^c, "):
        run(tmp_path, module)


def test_frames_that_no_window_covers_are_counted(tmp_path, capsys):
    report = run(tmp_path, stride=20)
    left_out = report["frames_left_out"]
    assert left_out > 0
    assert f"{left_out} annotated frames left out" in " ".join(capsys.readouterr().out.split())
    annotated = sum(int((video.target >= 0).sum()) for video in make_videos())
    assert {figures["frames"] for figures in report["results"].values()} == {annotated - left_out}


def test_nothing_annotated_is_an_error_and_a_fast_dev_run_writes_nothing(tmp_path, capsys):
    with pytest.raises(InputError, match="no annotated frame was scored"):
        run(tmp_path, videos=make_videos(annotated=False))
    assert run(tmp_path / "fast", fast_dev_run=True) == {}
    assert not (tmp_path / "fast" / "robustness").exists()


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_scored(tmp_path):
    (tmp_path / "file").touch()
    module = module_with()
    with pytest.raises(InputError, match=r"/file: cannot be written"):
        run(tmp_path, module, report=RobustnessReport(output_dir=tmp_path / "file"))
    assert module.fusion.frames_seen == 0


def report_on_rank(rank, world_size, folder):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size
    )
    report, module = RobustnessReport(), module_with()
    inference = SlidingWindowInference(window=8, stride=4)
    precision = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False).precision_plugin
    trainer = SimpleNamespace(
        testing=True,
        predicting=False,
        fast_dev_run=False,
        is_global_zero=rank == 0,
        default_root_dir=folder,
        callbacks=[inference, report],
        precision_plugin=precision,
        model=module,
        strategy=None,
    )
    inference.on_test_epoch_start(trainer, module)
    # Video "a" on both ranks, as under a sampler that repeats.
    for video in make_videos():
        if video.video_id in ["ac", "ba"][rank]:
            inference._score(trainer, module, video)
    report.on_test_end(trainer, module)
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_report_what_one_does(tmp_path, capsys, monkeypatch):
    # The processes import this module by name, however pytest was started.
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    multiprocessing.spawn(report_on_rank, args=(2, str(tmp_path)), nprocs=2)
    alone = run(tmp_path / "one")
    assert json.loads((tmp_path / "robustness" / "robustness.json").read_text()) == alone
