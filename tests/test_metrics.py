import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from torch import distributed, multiprocessing
from torchmetrics import MetricCollection

from abaw.metrics import ExpressionMetrics, bootstrap_interval, scores_from_confusion

NAMES = ["a", "b", "c", "d"]


def reference(target, preds, num_classes):
    labels = range(num_classes)
    return (
        f1_score(target, preds, labels=labels, average="macro", zero_division=0),
        accuracy_score(target, preds),
        f1_score(target, preds, labels=labels, average=None, zero_division=0),
    )


def draw(seed, size, num_classes, low=0):
    generator = np.random.default_rng(seed)
    # Some classes never occur: they count as 0.
    some = generator.choice(num_classes, generator.integers(1, num_classes + 1), replace=False)
    target = generator.choice(some, size)
    target = np.where(generator.random(size) < 0.2, low, target)
    return target, generator.choice(some, size)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 60), num_classes=st.integers(2, 9))
def test_scores_are_those_of_scikit_learn_over_all_classes(seed, size, num_classes):
    pairs = [draw(seed + video, size, num_classes) for video in range(3)]
    matrices = [confusion_matrix(*pair, labels=range(num_classes)) for pair in pairs]
    macro_f1, accuracy, per_class_f1 = scores_from_confusion(torch.tensor(np.stack(matrices)))
    expected = [reference(*pair, num_classes) for pair in pairs]
    np.testing.assert_allclose(macro_f1, [e[0] for e in expected], atol=1e-6)
    np.testing.assert_allclose(accuracy, [e[1] for e in expected], atol=1e-6)
    np.testing.assert_allclose(per_class_f1, [e[2] for e in expected], atol=1e-6)


def test_nothing_counted_scores_zero():
    macro_f1, accuracy, per_class_f1 = scores_from_confusion(torch.zeros(2, 3, 3, dtype=torch.int64))
    assert macro_f1.tolist() == accuracy.tolist() == [0, 0]
    assert per_class_f1.tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize("as_scores", [False, True])
def test_metric_accumulates_batches_and_leaves_ignored_frames_out(as_scores):
    target, preds = draw(3, (5, 2, 11), len(NAMES), low=-1)
    metrics = ExpressionMetrics(NAMES, prefix="val/")
    for labels, truth in zip(torch.tensor(preds), torch.tensor(target), strict=True):
        given_ = torch.nn.functional.one_hot(labels, len(NAMES)).bfloat16() * 3 - 9 if as_scores else labels
        metrics.update(given_, truth)
    kept = target.ravel() >= 0
    macro_f1, accuracy, per_class_f1 = reference(target.ravel()[kept], preds.ravel()[kept], len(NAMES))
    values = metrics.compute()
    assert list(values) == ["val/f1", "val/accuracy", *(f"val/f1/{name}" for name in NAMES)]
    np.testing.assert_allclose(list(values.values()), [macro_f1, accuracy, *per_class_f1], atol=1e-6)
    metrics.reset()
    assert metrics.confusion.sum() == 0


def test_clone_is_a_copy_of_its_own_with_another_prefix():
    metrics = ExpressionMetrics(NAMES)
    copy = metrics.clone(prefix="test/")
    copy.update(torch.tensor([1]), torch.tensor([1]))
    assert copy.compute()["test/f1"] == 0.25
    assert metrics.confusion.sum() == 0
    assert copy.clone().compute() == copy.compute()


def test_it_works_in_a_metric_collection():
    metrics = MetricCollection(ExpressionMetrics(NAMES)).clone(prefix="val/")
    metrics.update(torch.tensor([0, 1]), torch.tensor([0, -1]))
    assert metrics.compute()["val/f1/a"] == 1


@pytest.mark.parametrize(
    ("preds", "target"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 5), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(preds, target):
    with pytest.raises(ValueError, match="expected preds"):
        ExpressionMetrics(NAMES).update(preds, target)


def videos(count, seed=0):
    return torch.tensor(
        np.stack([confusion_matrix(*draw(seed + v, 50, 4), labels=range(4)) for v in range(count)])
    )


def test_bootstrap_resamples_videos():
    # With two videos, three draws are possible: A twice, B twice, or one of each (half of the time).
    confusions = torch.stack([torch.eye(2) * 10, torch.tensor([[0.0, 10.0], [10.0, 0.0]])])
    # So the interval opens where its ends pass the quarters.
    assert bootstrap_interval(confusions, 20_000, level=0.54) == (0.0, 1.0)
    assert bootstrap_interval(confusions, 20_000, level=0.46) == (0.5, 0.5)


def test_bootstrap_agrees_with_a_loop_over_other_draws():
    confusions = videos(12)
    generator = np.random.default_rng(5)
    resampled = [
        float(scores_from_confusion(confusions[generator.integers(12, size=12)].sum(0))[0])
        for _ in range(4000)
    ]
    np.testing.assert_allclose(
        bootstrap_interval(confusions, 4000, level=0.8), np.quantile(resampled, [0.1, 0.9]), atol=0.01
    )


def test_bootstrap_is_a_function_of_its_seed_and_holds_the_figure():
    confusions = videos(9)
    low, high = bootstrap_interval(confusions)
    assert (low, high) == bootstrap_interval(confusions)
    assert (low, high) != bootstrap_interval(confusions, seed=1)
    assert low < scores_from_confusion(confusions.sum(0))[0] < high
    assert bootstrap_interval(confusions[:1])[0] == bootstrap_interval(confusions[:1])[1]


def test_the_interval_of_a_gain_draws_the_same_videos_for_both():
    # Every video gains as much, so that every draw does, however different the videos are.
    confusions = torch.tensor([[[n, 0], [0, n]] for n in (1, 5, 30)])
    baseline = torch.tensor([[[0, n], [0, n]] for n in (1, 5, 30)])
    assert bootstrap_interval(confusions, baseline=baseline) == pytest.approx((2 / 3, 2 / 3))
    assert bootstrap_interval(videos(6), baseline=videos(6)) == (0, 0)
    low, high = bootstrap_interval(baseline, baseline=confusions)
    assert low == high == pytest.approx(-2 / 3)


def test_bootstrap_refuses_what_it_cannot_answer():
    with pytest.raises(ValueError, match="at least one video"):
        bootstrap_interval(torch.zeros(0, 3, 3))
    with pytest.raises(ValueError, match="level"):
        bootstrap_interval(videos(2), level=95)
    with pytest.raises(ValueError, match="baseline"):
        bootstrap_interval(videos(2), baseline=videos(3))


def count_on_rank(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    metrics = ExpressionMetrics(NAMES)
    target, preds = draw(7, (3, 40), 4, low=-1)
    for batch in range(rank, 3, 2):
        metrics.update(torch.tensor(preds[batch]), torch.tensor(target[batch]))
    (folder / f"{rank}.json").write_text(json.dumps([float(value) for value in metrics.compute().values()]))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_count_together(tmp_path, monkeypatch):
    # The processes import this module by name, however pytest was started.
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    multiprocessing.spawn(count_on_rank, args=(tmp_path,), nprocs=2)
    target, preds = draw(7, (3, 40), 4, low=-1)
    kept = target.ravel() >= 0
    macro_f1, accuracy, per_class_f1 = reference(target.ravel()[kept], preds.ravel()[kept], 4)
    for rank in range(2):
        counted = json.loads((tmp_path / f"{rank}.json").read_text())
        np.testing.assert_allclose(counted, [macro_f1, accuracy, *per_class_f1], atol=1e-6)
