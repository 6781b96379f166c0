import warnings
from dataclasses import dataclass, field

import numpy as np
import pytest

from abaw.errors import InputError
from abaw.trained_on import check_unseen, seen, tell_of_other_labels, together


@dataclass
class Video:
    video_id: str
    target: np.ndarray = field(default_factory=lambda: np.arange(8))
    num_broken: int = 0

    def __len__(self) -> int:
        return len(self.target)


def other(name: str) -> Video:
    return Video(name, np.arange(8) % 7)


TRAINED_ON = seen([Video("a"), Video("b_left"), Video("c")])


def test_a_record_is_small_and_plain():
    assert set(TRAINED_ON) == {"a", "b_left", "c"}
    assert all(len(digests) == 1 and len(digests[0]) == 16 for digests in TRAINED_ON.values())
    narrow = Video("a", np.arange(8, dtype=np.int32))
    assert seen([narrow])["a"] == TRAINED_ON["a"]


def test_a_video_that_was_trained_on_is_not_scored():
    with pytest.raises(InputError, match=r"trained on 2 of the 3 videos to be scored \(first: a, c\)"):
        check_unseen([Video("a"), Video("c"), Video("z")], TRAINED_ON)


@pytest.mark.parametrize(
    ("scored", "message"),
    [
        ([other("a"), Video("z")], r"^1 of the 2 videos to be scored have names .*edited.*\(first: a\)"),
        ([Video("b_right"), Video("z")], r"^1 of the 2 videos .* persons of raw videos .*\(first: b_right\)"),
        ([Video("b"), Video("c_left")], r"^2 of the 2 videos .* persons of raw videos .*first: b, c_left"),
    ],
)
def test_one_that_may_have_been_is_told(scored: list[Video], message: str):
    with pytest.warns(UserWarning, match=message):
        check_unseen(scored, TRAINED_ON)


@pytest.mark.parametrize("scored", [[Video("z")], [], [Video("a", np.full(8, -1))]])
def test_others_are_scored_without_a_word(scored: list[Video]):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_unseen(scored, TRAINED_ON)
        check_unseen(scored, {})


def test_records_add_up():
    both = together(TRAINED_ON, seen([other("a"), Video("d")]))
    assert list(both) == ["a", "b_left", "c", "d"]
    assert len(both["a"]) == 2
    assert together(both, TRAINED_ON, both) == both
    for scored in (Video("a"), other("a"), Video("d")):
        with pytest.raises(InputError, match="trained on 1 of the 1"):
            check_unseen([scored], both)


def test_edited_labels_are_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_of_other_labels([Video("a"), Video("z")], TRAINED_ON)
    with pytest.warns(UserWarning, match=r"^the labels of 1 of 2 training videos were edited .*first: c"):
        tell_of_other_labels([Video("a"), other("c")], TRAINED_ON)
