import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score

from abaw.errors import InputError
from abaw.metrics import bootstrap_interval
from abaw.postprocess import Decoder, count_transitions, smooth
from abaw.tuning import SMOOTHINGS, ScoredVideo, tune

NAMES = ["calm", "glad", "sad"]


def labels_of(generator, num_frames):
    """Stretches of 20 frames; class 2 is rare."""
    share = torch.tensor([0.5, 0.4, 0.1])
    stretches = torch.multinomial(share, -(-num_frames // 20), replacement=True, generator=generator)
    return stretches.repeat_interleave(20)[:num_frames]


def scored(video_id, seed, signal=1.5, num_frames=160):
    """Scores that know the label, and flicker; some frames are not annotated, some not covered."""
    generator = torch.Generator().manual_seed(seed)
    target = labels_of(generator, num_frames)
    logits = signal * torch.nn.functional.one_hot(target, 3) + torch.randn(num_frames, 3, generator=generator)
    logits += torch.tensor([0.5, 0.0, -1.0])
    covered = torch.arange(num_frames) != 7
    target[50:60] = -1
    return ScoredVideo(video_id, logits.softmax(-1) * covered[:, None], covered, target)


VIDEOS = [scored(name, seed) for seed, name in enumerate(["c", "a_left", "b", "a_right", "d", "e", "f"])]
TRANSITIONS = count_transitions([labels_of(torch.Generator().manual_seed(9), 2000)], 3)


@pytest.fixture(scope="module")
def tuned():
    return tune(VIDEOS, NAMES, TRANSITIONS, folds=3)


def macro_f1(videos, labels):
    kept = [(v.target >= 0) & v.covered for v in videos]
    target = torch.cat([v.target[k] for v, k in zip(videos, kept, strict=True)])
    decided = torch.cat([own[k] for own, k in zip(labels, kept, strict=True)])
    return f1_score(target, decided, labels=range(3), average="macro", zero_division=0)


def test_the_gain_is_what_the_file_s_parameters_reach_on_held_out_videos(tuned):
    plain = macro_f1(VIDEOS, [v.scores.argmax(-1) for v in VIDEOS])
    held_out = macro_f1(VIDEOS, [tuned.postprocessing(v.scores, v.covered, v.video_id)[1] for v in VIDEOS])
    final = macro_f1(VIDEOS, [tuned.postprocessing(v.scores, v.covered)[1] for v in VIDEOS])
    assert tuned.plain_f1 == pytest.approx(plain)
    assert tuned.gains["chosen"].held_out == pytest.approx(held_out - plain)
    assert tuned.gains["chosen"].in_sample == pytest.approx(final - plain)
    assert tuned.gains["chosen"].held_out > 0.05
    assert all(tuned.postprocessing.holds_out(v.video_id) for v in VIDEOS)


def test_the_interval_is_of_the_gain_and_over_raw_videos(tuned):
    def confusions(decide):
        counts = {}
        for video in sorted(VIDEOS, key=lambda v: v.video_id):
            kept = (video.target >= 0) & video.covered
            matrix = confusion_matrix(video.target[kept], decide(video)[kept], labels=range(3))
            raw = video.video_id.split("_")[0]
            counts[raw] = counts.get(raw, 0) + matrix
        return torch.tensor(np.stack(list(counts.values())))

    held_out = confusions(lambda v: tuned.postprocessing(v.scores, v.covered, v.video_id)[1])
    plain = confusions(lambda v: v.scores.argmax(-1))
    assert len(plain) == 6
    assert tuned.gains["chosen"].interval == pytest.approx(bootstrap_interval(held_out, baseline=plain))


def test_frames_without_scores_count_as_little_in_the_fit_as_afterwards(monkeypatch):
    monkeypatch.setattr("abaw.tuning._Fitter.choose", lambda self, folds: ("bias", "Viterbi"))
    videos = [v._replace(covered=torch.arange(160) % 40 < 25) for v in VIDEOS]
    tuned = tune(videos, NAMES, TRANSITIONS, folds=3)
    labels = [tuned.postprocessing(v.scores, v.covered)[1] for v in videos]
    assert tuned.postprocessing.decoder.transition_weight is not None
    assert tuned.gains["chosen"].in_sample == pytest.approx(macro_f1(videos, labels) - tuned.plain_f1)


@pytest.mark.parametrize("methods", [("smoothing", "bias"), ("Viterbi",)])
def test_frames_without_an_answer_are_no_evidence_in_the_fit_nor_afterwards(monkeypatch, methods):
    monkeypatch.setattr("abaw.tuning._Fitter.choose", lambda self, folds: methods)
    videos = [
        v._replace(
            # What is voted where nothing is there, surely and wrongly.
            scores=torch.where((torch.arange(160) % 40 < 25)[:, None], v.scores, torch.tensor([0, 0, 1.0])),
            answered=torch.arange(160) % 40 < 25,
        )
        for v in VIDEOS
    ]
    tuned = tune(videos, NAMES, TRANSITIONS, folds=3)
    decoder = tuned.postprocessing.decoder
    assert (decoder.smoothing or decoder.transition_weight) is not None
    labels = [tuned.postprocessing(v.scores, v.covered, None, v.answered)[1] for v in videos]
    assert tuned.gains["chosen"].in_sample == pytest.approx(macro_f1(videos, labels) - tuned.plain_f1)
    blind = tune([v._replace(answered=None) for v in videos], NAMES, TRANSITIONS, folds=3)
    assert blind.plain_f1 == tuned.plain_f1, "all annotated frames count"
    assert blind.gains["smoothing"].in_sample < tuned.gains["smoothing"].in_sample
    assert blind.gains["bias"].in_sample < tuned.gains["bias"].in_sample


def test_smoothing_alone_is_what_a_loop_over_folds_finds(tuned):
    folds = [set(fold.videos) for fold in tuned.postprocessing.folds]

    def smoothed(video, choice):
        scores = (
            video.scores if choice is None else smooth(video.scores, choice.kind, choice.width, video.covered)
        )
        return scores.argmax(-1)

    labels = {}
    for fold in folds:
        others = [v for v in VIDEOS if v.video_id not in fold]
        f1 = [macro_f1(others, [smoothed(v, choice) for v in others]) for choice in (None, *SMOOTHINGS)]
        best = (None, *SMOOTHINGS)[int(np.argmax(f1))]
        labels |= {v.video_id: smoothed(v, best) for v in VIDEOS if v.video_id in fold}
    expected = macro_f1(VIDEOS, [labels[v.video_id] for v in VIDEOS]) - tuned.plain_f1
    assert tuned.gains["smoothing"].held_out == pytest.approx(expected)


def test_persons_of_one_raw_video_are_in_one_fold(tuned):
    folds = [set(fold.videos) for fold in tuned.postprocessing.folds]
    assert len(folds) == 3
    assert sum(map(len, folds)) == len(VIDEOS)
    assert any({"a_left", "a_right"} <= fold for fold in folds)
    assert (tuned.num_videos, tuned.num_raw_videos) == (7, 6)


def test_a_fold_s_parameters_know_nothing_of_its_videos(tuned):
    same = 0
    for fold in tuned.postprocessing.folds:
        # The frames that count stay the same, so that the folds do.
        spoilt = [
            v._replace(target=torch.where(v.target >= 0, (v.target + 1) % 3, -1), scores=v.scores.flip(-1))
            if v.video_id in fold.videos
            else v
            for v in VIDEOS
        ]
        again = {f.videos: f.decoder for f in tune(spoilt, NAMES, TRANSITIONS, folds=3).postprocessing.folds}
        # Unless nothing gains any more, and all is switched off.
        assert again[fold.videos] in (fold.decoder, Decoder())
        same += again[fold.videos] == fold.decoder
    assert same, "everything was switched off in every case"


def test_order_decides_nothing(tuned):
    again = tune(VIDEOS[::-1], NAMES, TRANSITIONS, folds=3)
    assert again == tuned


def test_noise_gains_in_sample_alone_and_is_not_switched_on():
    noise = [scored(str(seed), seed, signal=0.0) for seed in range(6)]
    noise = [
        v._replace(target=labels_of(torch.Generator().manual_seed(int(v.video_id) + 99), 160)) for v in noise
    ]
    tuned = tune(noise, NAMES, TRANSITIONS, folds=3)
    assert tuned.gains["bias"].in_sample > 0
    assert tuned.gains["chosen"].held_out < tuned.gains["bias"].in_sample
    assert tuned.gains["chosen"].held_out <= 0
    assert tuned.chosen == ()
    assert tuned.postprocessing.decoder == Decoder()
    assert {fold.decoder for fold in tuned.postprocessing.folds} == {Decoder()}
    assert "Switched on: nothing" in tuned.describe()


def test_where_the_final_choice_is_nothing_the_folds_do_nothing_either(monkeypatch):
    monkeypatch.setattr("abaw.tuning._Fitter.choose", lambda self, folds: ("bias",) if len(folds) < 3 else ())
    tuned = tune(VIDEOS, NAMES, TRANSITIONS, folds=3)
    assert tuned.gains["chosen"].held_out > 0
    assert {fold.decoder for fold in tuned.postprocessing.folds} == {Decoder()}


def test_what_does_not_gain_as_a_whole_is_switched_off_after_all(monkeypatch):
    monkeypatch.setattr("abaw.tuning._Fitter.choose", lambda self, folds: ("bias",))
    noise = [v._replace(target=v.target.roll(37 * number)) for number, v in enumerate(VIDEOS, start=1)]
    tuned = tune(noise, NAMES, folds=3)
    assert tuned.gains["chosen"].held_out <= 0 < tuned.gains["chosen"].in_sample
    assert tuned.postprocessing.decoder == Decoder()
    assert {fold.decoder for fold in tuned.postprocessing.folds} == {Decoder()}


def test_methods_that_gain_in_sample_alone_are_not_switched_on():
    videos = [scored(str(seed), seed + 42, signal=1.0) for seed in range(6)]
    tuned = tune(videos, NAMES, TRANSITIONS, folds=3)
    for method in ("bias", "Viterbi"):
        assert tuned.gains[method].held_out < 0 < tuned.gains[method].in_sample
    assert tuned.chosen == ("smoothing",)
    decoder = tuned.postprocessing.decoder
    assert decoder.smoothing is not None
    assert decoder == Decoder(decoder.smoothing)


def test_without_training_labels_there_is_no_viterbi_decoding():
    tuned = tune(VIDEOS, NAMES, folds=3)
    assert list(tuned.gains) == ["smoothing", "bias", "chosen"]
    assert tuned.postprocessing.transitions is None
    assert "no training labels" in tuned.describe()


def test_the_table_labels_what_is_no_result(tuned):
    lines = tuned.describe().splitlines()
    assert "in-sample (no result)" in lines[1]
    for method, gain in tuned.gains.items():
        (row,) = [line for line in lines if line.startswith(f"  {method} ")]
        low, high = gain.interval
        assert low <= high
        assert row.split()[1:] == [
            f"{gain.held_out:+.3f}",
            f"{low:+.3f}…{high:+.3f}",
            f"{gain.in_sample:+.3f}",
        ]


@pytest.mark.parametrize(("videos", "folds"), [(VIDEOS, 2), (VIDEOS, 7), (VIDEOS[:2], 3)])
def test_too_few_raw_videos_or_folds_are_refused(videos, folds):
    with pytest.raises(InputError, match="3"):
        tune(videos, NAMES, TRANSITIONS, folds)


def test_videos_without_an_annotated_score_are_left_out():
    blind = VIDEOS[0]._replace(video_id="blind", covered=torch.zeros(160, dtype=torch.bool))
    unknown = VIDEOS[0]._replace(video_id="unknown", target=torch.full((160,), -1))
    tuned = tune([*VIDEOS, blind, unknown], NAMES, folds=3)
    assert tuned.num_videos == 7
    assert not tuned.postprocessing.holds_out("blind")
