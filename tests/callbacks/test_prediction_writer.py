from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from scored import Data, Module, Unreached, run_stage
from torch.utils.data import DataLoader

from abaw.callbacks.prediction_writer import PredictionWriter
from abaw.callbacks.results import VideoScores
from abaw.data.datasets import ChunkDataset
from abaw.errors import InputError
from abaw.postprocess import SavedScores, save_scores

NAMES = ["calm", "glad", "sad"]


def scored(video_id, labels, condition="audio+video", covered=None, faces=None):
    """A video that was given ``labels``, with a window and a face at every frame unless said."""
    covered = torch.tensor([True] * len(labels) if covered is None else covered)
    faces = torch.tensor([True] * len(labels) if faces is None else faces)
    scores = torch.nn.functional.one_hot(torch.tensor(labels), 3).float() * 0.7 + 0.1
    target = torch.full((len(labels),), -1)
    decided = torch.tensor(labels)
    return VideoScores(
        video_id, condition, scores * covered[:, None], decided, covered, target, faces, ~faces
    )


def run(folder, results, stage="predict", writer=None, **options):
    run_stage(stage, folder, writer or PredictionWriter(), results, NAMES, **options)
    return folder / "predictions"


def rows(path):
    return path.read_text().splitlines()[1:]


def test_scores_are_written_per_video_with_the_classes_names(tmp_path, capsys):
    result = scored("v_left", [0, 2, 1], covered=[False, False, True], faces=[True, False, False])
    path = run(tmp_path, [result]) / "scores" / "v_left.safetensors"
    tensors = load_file(path)
    assert sorted(tensors) == ["audio_mask", "covered", "labels", "scores", "video_mask"]
    for name in ("scores", "covered", "video_mask", "audio_mask"):
        assert tensors[name].dtype == getattr(result, name).dtype
        assert tensors[name].equal(getattr(result, name))
    # As they were decided on, whatever the scores are.
    assert tensors["labels"].tolist() == [0, 2, 1]
    assert tensors["labels"].dtype == torch.int64
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"class_names": "calm,glad,sad"}


def test_the_submission_is_by_name_filled_and_counted(tmp_path, capsys):
    results = [
        scored("b.2", [2, 1, 0, 0], covered=[True, True, True, False]),
        scored("a", [1, 0, 0], faces=[True, False, False]),
    ]
    folder = run(tmp_path, results)
    assert (folder / "predictions.txt").read_text().splitlines() == [
        "image_location,calm,glad,sad",
        "a/00001.jpg,1",
        "a/00002.jpg,1",
        "a/00003.jpg,1",
        "b.2/00001.jpg,2",
        "b.2/00002.jpg,1",
        "b.2/00003.jpg,0",
        "b.2/00004.jpg,0",
    ]
    printed = capsys.readouterr().out
    assert f"7 rows of 2 videos: {folder / 'predictions.txt'}" in printed
    assert "2 without a face" in printed
    assert "1 without a score" in printed
    assert f"{folder / 'scores'}" in printed


def test_the_template_is_the_argument_s_else_the_data_module_s(tmp_path, capsys):
    header = "image_location,calm,glad,sad\n"
    templates = {}
    for name, frames in {"mine": (2, 1), "corpus": (2,)}.items():
        templates[name] = tmp_path / f"{name}.txt"
        templates[name].write_text(header + "".join(f"v/{frame:05d}.jpg,\n" for frame in frames))
    data = Data(template_path=templates["corpus"])
    results = [scored("v", [0, 1])]
    writer = PredictionWriter(tmp_path / "out", templates["mine"])
    run(tmp_path, results, writer=writer, data=data)
    assert rows(tmp_path / "out" / "predictions.txt") == ["v/00002.jpg,1", "v/00001.jpg,0"]
    assert rows(run(tmp_path, results, data=data) / "predictions.txt") == ["v/00002.jpg,1"]


def test_scores_of_an_earlier_run_do_not_leak(tmp_path, capsys):
    writer = PredictionWriter()
    run(tmp_path, [scored("old", [0]), scored("both", [0])], writer=writer)
    stray = tmp_path / "predictions/scores/._both.safetensors"  # as macOS leaves it beside a file
    stray.write_bytes(b"?")
    folder = run(tmp_path, [scored("both", [1])], writer=writer)
    assert rows(folder / "predictions.txt") == ["both/00001.jpg,1"]
    assert {path.name for path in (folder / "scores").iterdir()} == {"both.safetensors", stray.name}


def test_a_failed_prediction_leaves_no_submission_of_other_scores(tmp_path, capsys):
    folder = run(tmp_path, [scored("v", [1])])
    with pytest.raises(InputError, match="no frame has a finite score"):
        run(tmp_path, [scored("v", [1], covered=[False])])
    assert not (folder / "predictions.txt").exists()


class Listed(Data):
    """Tells the names of the videos to predict."""

    def __init__(self, *names):
        super().__init__(names=names)

    def predict_dataloader(self):
        recordings = [Named(name) for name in self.names]
        return DataLoader(ChunkDataset(recordings, None, chunk=1, batch_size=1), batch_size=None)


class Named(str):
    """As much of a recording as its name."""

    @property
    def video_id(self):
        return str(self)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "sample.txt: cannot be read"),
        (["image_location,glad,calm,sad", "v/00001.jpg,"], "line 1: the header must be"),
        (["image_location,calm,glad,sad", "v/00001.jpg,"], "lacks videos to predict: w;"),
        (
            ["image_location,calm,glad,sad", *(f"{v}/00001.jpg," for v in "vwx")],
            "has videos without a prediction: x;",
        ),
    ],
)
def test_a_template_that_does_not_fit_is_said_before_anything_is_predicted(tmp_path, rows, message):
    template = tmp_path / "sample.txt"
    if rows:
        template.write_text("\n".join(rows))
    earlier = tmp_path / "predictions" / "predictions.txt"
    earlier.parent.mkdir()
    earlier.touch()
    with pytest.raises(InputError, match=message):
        run(tmp_path, Unreached(), writer=PredictionWriter(template=template), data=Listed("v", "w"))
    assert earlier.exists(), "nothing has taken its place"


def test_a_template_in_the_submission_s_place_is_refused_and_kept(tmp_path):
    template = tmp_path / "predictions.txt"
    template.write_text("image_location,calm,glad,sad\nv/00001.jpg,\n")
    with pytest.raises(InputError, match=r"predictions\.txt: would be overwritten"):
        run(tmp_path, Unreached(), writer=PredictionWriter(tmp_path, template))
    assert template.exists()


@pytest.mark.parametrize("below", ["", "scores"])
def test_a_folder_that_cannot_be_written_is_said_before_anything_is_predicted(tmp_path, below):
    folder = tmp_path / "out"
    (folder / below).parent.mkdir(exist_ok=True)
    (folder / below).touch()
    with pytest.raises(InputError, match=f"^{folder / below}: cannot be written"):
        run(tmp_path, Unreached(), writer=PredictionWriter(folder))


@pytest.mark.parametrize("name", ["../../v", "/v", "a/v", "."])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=f"^'{name}' is no video's name"):
        run(tmp_path, Unreached(), data=Listed(name))
    with pytest.raises(InputError, match=f"^'{name}' is no video's name"):
        run(tmp_path, [scored(name, [1])])
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_template_s_name_that_leads_out_of_the_folder_is_refused(tmp_path):
    template = tmp_path / "sample.txt"
    template.write_text("image_location,calm,glad,sad\n../../v/00001.jpg,\n")
    with pytest.raises(InputError, match=r"^'\.\./\.\./v' is no video's name"):
        run(tmp_path, Unreached(), writer=PredictionWriter(template=template))


def test_the_first_condition_of_each_video_is_written(tmp_path, capsys):
    results = [scored("v", [1]), scored("v", [2], condition="video only"), scored("w", [0], "audio only")]
    assert rows(run(tmp_path, results) / "predictions.txt") == ["v/00001.jpg,1", "w/00001.jpg,0"]


def test_validation_and_a_fast_dev_run_write_nothing(tmp_path):
    run(tmp_path, [scored("v", [1])], stage="validate")
    run(tmp_path, [scored("v", [1])], fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


def test_no_video_and_no_finite_score_are_errors(tmp_path):
    with pytest.raises(InputError, match="no video was scored"):
        run(tmp_path, [])
    with pytest.raises(InputError, match=r"^v: no frame has a finite score"):
        run(tmp_path, [scored("w", [1]), scored("v", [0, 0], covered=[False, False])])
    assert not (tmp_path / "predictions" / "predictions.txt").exists()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_write_together_what_one_writes(tmp_path, capsys, world_size):
    videos = [scored(name, [n % 3, (n + 1) % 3]) for n, name in enumerate("dacbe")]
    module = Module(NAMES)
    ranks = [
        (
            PredictionWriter(),
            SimpleNamespace(
                predicting=True,
                fast_dev_run=False,
                is_global_zero=rank == 0,
                default_root_dir=tmp_path,
                predict_dataloaders=None,
                strategy=SimpleNamespace(barrier=lambda name: None),
            ),
        )
        for rank in range(world_size)
    ]
    stale = tmp_path / "predictions" / "scores" / "stale.safetensors"
    save_scores(stale, SavedScores(*[torch.zeros(1, 3)] * 5, class_names=tuple(NAMES)))
    old = tmp_path / "predictions" / "predictions.txt"
    old.touch()
    for writer, trainer in reversed(ranks):
        writer.on_predict_start(trainer, module)
        assert stale.exists() == old.exists() != trainer.is_global_zero
    for number, video in enumerate(videos):
        writer, trainer = ranks[number % world_size]
        writer.on_video_scored(trainer, module, video)
    for writer, trainer in reversed(ranks):
        writer.on_predict_end(trainer, module)
        assert (tmp_path / "predictions" / "predictions.txt").exists() == trainer.is_global_zero
    expected = [
        f"{name}/{f + 1:05d}.jpg,{('dacbe'.index(name) + f) % 3}" for name in "abcde" for f in range(2)
    ]
    assert rows(tmp_path / "predictions" / "predictions.txt") == expected


def test_files_that_are_no_scores_are_not_removed(tmp_path):
    foreign = tmp_path / "predictions" / "scores" / "weights.safetensors"
    foreign.parent.mkdir(parents=True)
    (tmp_path / "predictions" / "predictions.txt").touch()
    for content in (b"mine", save({"scores": torch.ones(1)})):
        foreign.write_bytes(content)
        with pytest.raises(InputError, match=r"weights\.safetensors: is no file of scores"):
            run(tmp_path, [scored("v", [0, 0])])
        assert foreign.exists()
        assert (tmp_path / "predictions" / "predictions.txt").exists()
