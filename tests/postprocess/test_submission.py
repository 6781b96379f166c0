import dataclasses
import re
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw.errors import InputError
from abaw.postprocess import SubmissionReport, check_submission, check_template, write_submission

HEADER = "image_location,Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"


def write(path, rows, header=HEADER, newline="\n"):
    path.write_bytes(newline.join([header, *rows, ""]).encode())
    return path


def nearest(frame, present):
    there = [f for f, is_there in enumerate(present) if is_there] or [min(frame, len(present) - 1)]
    return min(there, key=lambda f: (abs(f - frame), f))


@st.composite
def corpora(draw):
    """Predictions and faces of some videos, and the (video, 1-based frame) rows that a template asks for."""
    names = st.text("ab-_ .é1", min_size=1, max_size=6)
    videos = draw(
        st.dictionaries(names, st.lists(st.tuples(st.integers(0, 7), st.booleans()), min_size=1), min_size=1)
    )
    rows = [
        (v, f)
        for v in videos
        for f in draw(st.lists(st.integers(1, len(videos[v]) + 3), min_size=1, unique=True))
    ]
    return videos, draw(st.permutations(rows))


@settings(max_examples=150, deadline=None)
@given(corpora(), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", ",3", ",,,,"]))
def test_a_submission_has_the_template_s_rows_and_the_nearest_face_s_labels(corpus, newline, sample):
    videos, rows = corpus
    labels = {video: torch.tensor([label for label, _ in frames]) for video, frames in videos.items()}
    present = {video: torch.tensor([face for _, face in frames]) for video, frames in videos.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        template = write(
            folder / "sample.txt",
            [f"{video}/{frame:05d}.jpg{sample}" for video, frame in rows],
            newline=newline,
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = write_submission(folder / "predictions.txt", template, labels, present=present)
        written = (folder / "predictions.txt").read_bytes()
        check = check_submission(folder / "predictions.txt", template)
        assert sorted(path.name for path in folder.iterdir()) == ["predictions.txt", "sample.txt"]

    sources = [
        (video, frame - 1, nearest(frame - 1, [face for _, face in videos[video]])) for video, frame in rows
    ]
    expected = [HEADER]
    expected += [f"{v}/{frame + 1:05d}.jpg,{videos[v][source][0]}" for v, frame, source in sources]
    assert written == ("\n".join(expected) + "\n").encode()
    assert (report.videos, report.rows) == (len(videos), len(rows))
    assert report.filled == sum(frame != source for _, frame, source in sources)
    assert check == dataclasses.replace(report, filled=0)
    beyond = sum(frame >= len(videos[video]) for video, frame, _ in sources)
    assert [f"has {beyond} rows beyond" in str(warning.message) for warning in caught] == [True] * bool(
        beyond
    )


def test_without_a_template_each_prediction_is_a_row(tmp_path):
    path = tmp_path / "new" / "predictions.txt"
    report = write_submission(
        path, None, {"b": torch.tensor([1, 0]), "a": torch.tensor([1])}, class_names=["calm", "glad"]
    )
    assert path.read_text() == "image_location,calm,glad\nb/00001.jpg,1\nb/00002.jpg,0\na/00001.jpg,1\n"
    assert report == SubmissionReport(videos=2, rows=3, filled=0)
    assert check_submission(path, class_names=["calm", "glad"]).rows == 3


def test_videos_missing_or_unknown_are_listed_and_nothing_is_written(tmp_path):
    template = write(tmp_path / "sample.txt", ["here/00001.jpg,", "gone/00001.jpg,", "lost/00001.jpg,"])
    path = tmp_path / "predictions.txt"
    path.write_text("old")
    one = torch.tensor([0])
    with pytest.raises(InputError, match=r"sample.txt has videos without a prediction: gone, lost;"):
        write_submission(path, template, {"here": one, "gone": one[:0]})
    with pytest.raises(InputError, match=r"sample.txt lacks videos to predict: other;"):
        write_submission(path, template, {"here": one, "gone": one, "lost": one, "other": one})
    with pytest.raises(InputError, match=r"predict: v00, .*, v09, .*, v14; "):
        write_submission(
            path, template, {"here": one, "gone": one, "lost": one} | {f"v{n:02}": one for n in range(15)}
        )
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (
            "image_location,Anger,Neutral",
            ["v/00001.jpg,"],
            "line 1: the header must be 'image_location,Neutral",
        ),
        (HEADER, [], "no rows below its header"),
        (HEADER, ["v/00001.jpg,", "v/first.jpg,"], "line 3: 'v/first.jpg' is not a frame"),
        (HEADER, ["v/00000.jpg,"], "line 2: 'v/00000.jpg' is not a frame"),
        (HEADER, ["00001.jpg,"], "line 2: '00001.jpg' is not a frame"),
    ],
)
def test_malformed_templates_are_refused_with_the_line(tmp_path, header, rows, message):
    template = write(tmp_path / "sample.txt", rows, header)
    with pytest.raises(InputError, match=f"sample.txt.*{re.escape(message)}"):
        write_submission(tmp_path / "predictions.txt", template, {"v": torch.tensor([0])})


def test_a_template_with_a_row_twice_is_refused(tmp_path):
    template = tmp_path / "sample.txt"
    template.write_text(f"{HEADER}\nv/00001.jpg,\nv/00002.jpg,\nv/00001.jpg,\n")
    with pytest.raises(InputError, match=r"sample.txt, line 4: v/00001.jpg is there twice"):
        check_template(template)


def test_blank_lines_of_a_template_are_passed_over(tmp_path):
    template = write(tmp_path / "sample.txt", ["v/00001.jpg,", "", "v/00002.jpg,", ""])
    path = tmp_path / "predictions.txt"
    write_submission(path, template, {"v": torch.tensor([5, 6])})
    assert path.read_text().splitlines()[1:] == ["v/00001.jpg,5", "v/00002.jpg,6"]
    assert check_submission(path, template).rows == 2


def test_a_template_may_start_with_a_byte_order_mark_and_a_submission_may_not(tmp_path):
    template, path = tmp_path / "sample.txt", tmp_path / "predictions.txt"
    template.write_text(f"{HEADER}\nv/00001.jpg,\n", encoding="utf-8-sig")
    assert check_template(template, videos={"v"}) == {"v"}
    write_submission(path, template, {"v": torch.tensor([5])})
    assert path.read_bytes() == f"{HEADER}\nv/00001.jpg,5\n".encode()
    assert check_submission(path, template).rows == 1
    path.write_text(path.read_text(), encoding="utf-8-sig")
    with pytest.raises(InputError, match="line 1: the header must be"):
        check_submission(path, template)


def test_a_template_is_checked_against_the_videos_before_anything_is_predicted(tmp_path):
    template = write(tmp_path / "sample.txt", ["b/00001.jpg,", "a/00001.jpg,", "b/00002.jpg,"])
    assert check_template(template) == check_template(template, videos={"a", "b"}) == {"a", "b"}
    with pytest.raises(InputError, match=r"sample.txt has videos without a prediction: b;"):
        check_template(template, videos={"a", "c"})
    with pytest.raises(InputError, match=r"sample.txt lacks videos to predict: c;"):
        check_template(template, videos={"a", "b", "c"})
    with pytest.raises(InputError, match="line 1: the header must be 'image_location,calm'"):
        check_template(template, ["calm"])


def test_a_template_that_is_not_there_is_said_to_be(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt: cannot be read"):
        write_submission(tmp_path / "p.txt", tmp_path / "none.txt", {"v": torch.tensor([0])})


@pytest.mark.parametrize(
    ("labels", "present"),
    [
        (torch.tensor([0, 8]), torch.tensor([True, True])),
        (torch.tensor([-1, 0]), torch.tensor([True, True])),
        (torch.tensor([0.0, 1.0]), torch.tensor([True, True])),
        (torch.tensor([[0, 1]]), torch.tensor([True, True])),
        (torch.tensor([0, 1]), torch.tensor([True])),
        (torch.tensor([0, 1]), torch.tensor([1, 0])),
    ],
)
def test_tensors_that_are_no_labels_or_masks_are_refused(tmp_path, labels, present):
    with pytest.raises(ValueError, match=r"v: (labels|present) must be"):
        write_submission(tmp_path / "p.txt", None, {"v": labels}, present={"v": present})


ROWS = ["a/00001.jpg,0", "a/00002.jpg,7", "b/00001.jpg,3"]


@pytest.mark.parametrize("with_template", [False, True])
def test_a_right_submission_passes_with_and_without_a_last_newline(tmp_path, with_template):
    template = write(tmp_path / "sample.txt", ROWS) if with_template else None
    path = tmp_path / "predictions.txt"
    for text in ("\n".join([HEADER, *ROWS]), "\r\n".join([HEADER, *ROWS, ""])):
        path.write_bytes(text.encode())
        assert check_submission(path, template) == SubmissionReport(videos=2, rows=3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a/00001.jpg,0", "a/00002.jpg", *ROWS[2:]], "line 3: 'a/00002.jpg' is not two fields"),
        (["a/00001.jpg,0,1", *ROWS[1:]], "line 2: 'a/00001.jpg,0,1' is not two fields"),
        ([*ROWS, ""], "line 5: '' is not two fields"),
        (["a/00001.jpg,8", *ROWS[1:]], "line 2: the label '8' is not an integer from 0 to 7"),
        (["a/00001.jpg,-1", *ROWS[1:]], "line 2: the label '-1' is not"),
        (["a/00001.jpg,0.0", *ROWS[1:]], "line 2: the label '0.0' is not"),
        (["a/00001.jpg, 0", *ROWS[1:]], "line 2: the label ' 0' is not"),
    ],
)
@pytest.mark.parametrize("with_template", [False, True])
def test_malformed_rows_are_refused_with_the_line(tmp_path, rows, message, with_template):
    template = write(tmp_path / "sample.txt", ROWS) if with_template else None
    path = write(tmp_path / "predictions.txt", rows)
    with pytest.raises(InputError, match=f"predictions.txt, {re.escape(message)}"):
        check_submission(path, template)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:2], "line 4: the file ends where .* goes on with b/00001.jpg; 1 row.*; missing videos: b$"),
        ([], "line 2: the file ends where .* goes on with a/00001.jpg; 3 row"),
        ([ROWS[0], ROWS[2]], "line 3: b/00001.jpg stands where a/00002.jpg is missing"),
        (ROWS[1:], "line 2: a/00002.jpg stands where a/00001.jpg is missing"),
        ([ROWS[1], ROWS[0], ROWS[2]], "line 2: a/00002.jpg is out of order, a/00001.jpg is due"),
        ([ROWS[0], ROWS[0], *ROWS[1:]], "line 3: a/00001.jpg is there twice; keep the first of the rows$"),
        ([*ROWS, ROWS[1]], "line 5: a/00002.jpg is there twice"),
        (
            [*ROWS, "c/00001.jpg,0"],
            "line 5: c/00001.jpg is not in .*sample.txt; remove the row; unknown videos: c$",
        ),
        (
            ["c/00001.jpg,0", *ROWS[:2], "d/00001.jpg,0"],
            "line 2: c/00001.jpg .* row; missing videos: b; unknown videos: c, d$",
        ),
        ([",0", *ROWS], "line 2:  is not in .*sample.txt; remove the row$"),
    ],
)
def test_rows_other_than_the_template_s_are_refused_with_the_line(tmp_path, rows, message):
    template = write(tmp_path / "sample.txt", ROWS)
    path = write(tmp_path / "predictions.txt", rows)
    with pytest.raises(InputError, match=f"predictions.txt, {message}"):
        check_submission(path, template)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, ROWS[1]], "line 5: a/00002.jpg is there twice"),
        (["a/1.jpg,0"], "line 2: 'a/1.jpg' is not a frame"),
        ([], ": there are no rows below the header"),
    ],
)
def test_without_a_template_rows_must_be_frames_and_differ(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        check_submission(write(tmp_path / "predictions.txt", rows))


@pytest.mark.parametrize("header", ["", "image_location", HEADER + ",Contempt", HEADER.lower()])
def test_another_header_is_refused(tmp_path, header):
    path = write(tmp_path / "predictions.txt", ROWS, header)
    with pytest.raises(InputError, match=r"predictions.txt, line 1: the header must be"):
        check_submission(path)


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_refused(tmp_path):
    path = tmp_path / "predictions.txt"
    with pytest.raises(InputError, match="cannot be read"):
        check_submission(path)
    for data in (b"\xff\xfe\x00", f"{HEADER}\nd\xe9j\xe0/00001.jpg,0\n".encode("latin-1")):
        path.write_bytes(data)
        for check in (check_submission, check_template):
            with pytest.raises(InputError, match=r"predictions\.txt: is not text in UTF-8"):
                check(path)
