import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from abaw.cli import main
from abaw.labels import EXPRESSIONS
from abaw.postprocess import SavedScores, save_scores

HEADER = "image_location,Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"


def write_scores(folder, video, scores, faces=None):
    scores = torch.tensor(scores)
    there = torch.ones(len(scores), dtype=torch.bool)
    labels = scores.argmax(-1)
    faces = there if faces is None else torch.tensor(faces)
    saved = SavedScores(scores, there, faces, there, labels, EXPRESSIONS)
    save_scores(folder / f"{video}.safetensors", saved)


def one_hot(*labels, certainty=0.9):
    rest = (1 - certainty) / 7
    return [[certainty if c == label else rest for c in range(8)] for label in labels]


def write_template(path, *locations):
    path.write_text("\n".join([HEADER, *(f"{location}," for location in locations), ""]))
    return path


def rows(path):
    return path.read_text().splitlines()


def error_of(arguments, capsys):
    assert main(["submit", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0].removeprefix("abaw: error: ")


def test_scores_and_template_become_a_submission_that_is_right(tmp_path, capsys):
    write_scores(tmp_path / "scores", "b", one_hot(3, 4, 5), [True, False, True])
    write_scores(tmp_path / "scores", "a", one_hot(7))
    template = write_template(tmp_path / "sample.txt", "b/00003.jpg", "a/00001.jpg", "b/00002.jpg")
    output = tmp_path / "new" / "predictions.txt"
    assert main(["submit", f"{tmp_path}/scores", f"--template={template}", f"--output={output}"]) == 0
    assert rows(output) == [HEADER, "b/00003.jpg,5", "a/00001.jpg,7", "b/00002.jpg,3"]
    printed = capsys.readouterr().out
    assert f"3 rows of 2 videos: {output}\n  1 without a face" in printed

    assert main(["submit", "--check", str(output), "--template", str(template)]) == 0
    assert f"{output}: 3 rows of 2 videos, the rows of {template} in its order" in capsys.readouterr().out


def test_several_runs_are_averaged(tmp_path, capsys):
    write_scores(tmp_path / "a", "v", one_hot(1, 1, certainty=0.5))
    write_scores(tmp_path / "b", "v", one_hot(2, 2, certainty=0.6))
    write_scores(tmp_path / "c", "v", one_hot(1, 3, certainty=0.4))
    output = tmp_path / "predictions.txt"
    folders = [f"{tmp_path}/{name}" for name in "abc"]
    assert main(["submit", *folders, f"--output={output}"]) == 0
    assert rows(output) == [HEADER, "v/00001.jpg,1", "v/00002.jpg,2"]


def test_predictions_txt_is_the_default(tmp_path, monkeypatch):
    write_scores(tmp_path / "scores", "v", one_hot(6))
    monkeypatch.chdir(tmp_path)
    assert main(["submit", "scores"]) == 0
    assert rows(tmp_path / "predictions.txt") == [HEADER, "v/00001.jpg,6"]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_template_of_the_videos_is_followed_row_by_row(data):
    # A file that begins with a dot is no video's: systems leave such.
    names = st.text("ab-_ .1", min_size=1, max_size=5).filter(lambda name: not name.startswith("."))
    lengths = data.draw(st.dictionaries(names, st.integers(1, 4), min_size=1))
    everything = [(video, frame) for video, length in lengths.items() for frame in range(length)]
    labels = {key: data.draw(st.integers(0, 7)) for key in everything}
    faces = {key: data.draw(st.booleans()) for key in everything}
    kept = [key for key in everything if key[1] == 0 or data.draw(st.booleans())]
    wanted = data.draw(st.permutations(kept))
    expected = [HEADER]
    filled = 0
    for video, frame in wanted:
        there = [f for f in range(lengths[video]) if faces[video, f]] or [frame]
        nearest = min(there, key=lambda f: (abs(f - frame), f))
        expected.append(f"{video}/{frame + 1:05d}.jpg,{labels[video, nearest]}")
        filled += nearest != frame

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for video, length in lengths.items():
            frames = range(length)
            scores = one_hot(*(labels[video, f] for f in frames))
            write_scores(folder / "scores", video, scores, [faces[video, f] for f in frames])
        template = write_template(folder / "sample.txt", *(f"{v}/{f + 1:05d}.jpg" for v, f in wanted))
        output = folder / "predictions.txt"
        assert main(["submit", f"{folder}/scores", f"--template={template}", f"--output={output}"]) == 0
        assert rows(output) == expected
        assert main(["submit", f"--check={output}", f"--template={template}"]) == 0
        # Any row that is lost, moved or changed beyond its label is found.
        row = data.draw(st.integers(1, len(wanted)))
        spoilt = expected[:row] + expected[row + 1 :]
        put_back = data.draw(st.sampled_from([None, expected[row], expected[row].replace(",", ".png,")]))
        if put_back is not None:
            spoilt.insert(data.draw(st.integers(1, len(spoilt))), put_back)
        assume(spoilt != expected)
        output.write_text("\n".join(spoilt) + "\n")
        assert main(["submit", f"--check={output}", f"--template={template}"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either scores or --check FILE; 'abaw submit --help' lists the options"),
        (["{0}/scores", "--check", "{0}/p.txt"], "give either scores or --check FILE"),
        (["--check", "{0}/p.txt", "--output", "{0}/q.txt"], "--check writes nothing"),
        (["--tamplate", "{0}/sample.txt", "{0}/scores"], "unrecognized arguments: --tamplate"),
        (["{0}/none"], "/none: holds no scores"),
        (["{0}/scores", "{0}/scores"], "given twice"),
        (["--check", "{0}/none.txt"], "/none.txt: cannot be read"),
        (["{0}/scores", "--template", "{0}/other.txt"], "other.txt has videos without a prediction: w;"),
        (["{0}/more", "--template", "{0}/less.txt"], "less.txt lacks videos to predict: x;"),
        (["{0}/scores", "{0}/more"], "scores lacks x: predict the same videos"),
        (
            ["{0}/scores", "--template", "{0}/sample.txt", "--output", "{0}/./sample.txt"],
            "sample.txt: would be overwritten",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_scores(tmp_path / "scores", "v", one_hot(1))
    write_template(tmp_path / "sample.txt", "v/00001.jpg")
    write_template(tmp_path / "other.txt", "v/00001.jpg", "w/00001.jpg")
    write_template(tmp_path / "less.txt", "v/00001.jpg")
    write_scores(tmp_path / "more", "v", one_hot(1))
    write_scores(tmp_path / "more", "x", one_hot(1))
    before = sorted(tmp_path.iterdir())
    assert message in error_of([argument.format(tmp_path) for argument in arguments], capsys)
    assert sorted(tmp_path.iterdir()) == before


def test_help_answers_without_torch():
    code = (
        "import sys; from abaw.cli import main\n"
        "try: main(['submit', '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'lightning', 'numpy'} & set(sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for option in ("SCORES", "--template", "--output", "--check"):
        assert option in answer


def test_submitting_needs_no_lightning(tmp_path):
    write_scores(tmp_path / "scores", "v", one_hot(6))
    code = (
        "import sys; from abaw.cli import main\n"
        f"assert main(['submit', '{tmp_path}/scores', '--output', '{tmp_path}/p.txt']) == 0\n"
        "assert not {'lightning', 'transformers', 'torchmetrics'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
