"""A whole corpus on disk, in exactly the layout of Aff-Wild2."""

import glob
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import cv2
from rich.console import Console
from rich.progress import track

from abaw.errors import InputError
from abaw.files import expand, visible
from abaw.labels import EXPRESSIONS
from abaw.scratch import in_use, remove_left
from abaw.synth.cues import WEAKEST
from abaw.synth.plan import Recording, draw_plan
from abaw.synth.recording import LABEL_FOLDERS, write_recording

MARKER: Final = "SYNTHETIC.txt"
"""The file that says a folder is a synthetic corpus: nothing else is ever replaced."""

_TEST_SET = "Expression_Recognition_Challenge_test_set"
_DS_STORE = b"\x00\x00\x00\x01Bud1" + bytes(8)  # as macOS leaves it in every folder it shows
_SMALL = 4000  # frames below which a pool of processes costs more than it saves


def write_corpus(
    root: str | os.PathLike[str],
    videos: int = 40,
    frames: int = 300,
    seed: int = 0,
    progress: bool = True,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    weakest: float = WEAKEST,
) -> None:
    """Write a small corpus of drawn faces and synthesised voices in Aff-Wild2's layout.

    Face and voice each tell a part of the expression. Every trap of the real files occurs: frames without a
    face or an annotation, persons who share a raw video, late or missing sound, stray files, numbers that
    disagree. The labels of the test videos lie in ``test_labels/``, for checks alone: the real ones are not
    published.

    The corpus appears at once when it is complete; an interruption leaves nothing behind, and what a killed
    process has left is removed by the next for the same folder.

    Args:
        root: Folder to make.
        videos: How many, of which a quarter are for validation and 15 % for the test.
        frames: Labels of each.
        seed: Equal seeds give equal files, however many processes write them.
        progress: Show a progress bar on stderr.
        overwrite: Replace an older synthetic corpus.
        workers: Processes that draw; by default one a core, or none where it is quickly done.
        weakest: Least strength with which an expression shows in face and voice; each of its stretches has
            one of its own, up to 1.15. The lower, the more of them are hard to tell from Neutral.

    Raises:
        InputError: ``root`` exists, the corpus is too small for every expression to occur in it, or
            ``weakest`` is not between 0 and 1.
    """
    root = expand(os.fspath(root)).absolute()
    _check_free(root, overwrite)
    recordings = draw_plan(seed, videos, frames, weakest)
    if workers is None:
        workers = 0 if videos * frames < _SMALL else min(os.cpu_count() or 1, len(recordings))
    draft = root.with_name(f".{root.name}.{os.getpid()}.tmp")
    remove_left(root.parent.glob(f".{glob.escape(root.name)}.*.tmp"))
    draft.mkdir(parents=True)
    try:
        with in_use(draft):
            _write_folders(draft, recordings)
            _write_recordings(draft, seed, recordings, workers, progress)
            _write_test_set(draft, recordings)
            (draft / MARKER).write_text(
                "Synthetic: drawn faces and voices, no real person. Written by `abaw synth` "
                f"with --videos {videos} --frames {frames} --seed {seed} --weakest {weakest}.\n"
                "`abaw synth --overwrite` may replace this folder.\n",
                encoding="utf-8",
            )
        _replace(root, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_free(root: Path, overwrite: bool) -> None:
    """Refuse to put a corpus where something else lies."""
    if not root.exists() or (root.is_dir() and not visible(root)):
        return
    if not (root / MARKER).is_file():
        raise InputError(f"{root} is no synthetic corpus (no {MARKER} in it): name another folder")
    if not overwrite:
        raise InputError(f"{root} holds a synthetic corpus already: pass --overwrite to replace it")


def _replace(root: Path, draft: Path) -> None:
    """Put the finished corpus in its place."""
    old = draft.with_suffix(".old")
    if root.exists():
        root.rename(old)
    draft.rename(root)
    shutil.rmtree(old, ignore_errors=True)


def _write_folders(draft: Path, recordings: Sequence[Recording]) -> None:
    """Make all folders, some of them with what macOS leaves behind."""
    for folder in (*LABEL_FOLDERS.values(), "batch1", "batch2", "new_vids"):
        (draft / folder).mkdir(parents=True)
    for number, person in enumerate(person for recording in recordings for person in recording.persons):
        (draft / person.crops / person.name).mkdir(parents=True)
        if number % 4 == 0:
            (draft / person.crops / person.name / ".DS_Store").write_bytes(_DS_STORE)
    for folder in ("cropped_aligned", "batch1", LABEL_FOLDERS["train"], LABEL_FOLDERS["validation"]):
        (draft / folder / ".DS_Store").write_bytes(_DS_STORE)


def _write_recordings(
    draft: Path, seed: int, recordings: Sequence[Recording], workers: int, progress: bool
) -> None:
    """Write labels, crops and videos of all recordings, in this process or in a pool."""
    write = partial(write_recording, draft, seed)
    bar = partial(
        track,
        description="Writing videos",
        total=len(recordings),
        console=Console(stderr=True),
        disable=not progress,
    )
    if not workers:
        for recording in bar(recordings):
            write(recording)
        return
    # Spawned, not forked: a caller may hold threads, as torch and OpenCV do.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        for _ in bar(pool.map(write, recordings)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and other cores to other workers; end when the parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _write_test_set(draft: Path, recordings: Sequence[Recording]) -> None:
    """Write the list of test videos and the submission template, a row for each frame, crop or no crop."""
    tested = [person for recording in recordings if recording.split == "test" for person in recording.persons]
    (draft / f"{_TEST_SET}_release.txt").write_text("".join(f"{person.name}\n" for person in tested), "utf-8")
    rows = [f"{p.name}/{frame:05d}.jpg,0\n" for p in tested for frame in range(1, len(p.labels) + 1)]
    header = ",".join(["image_location", *EXPRESSIONS])
    (draft / f"{_TEST_SET}_sample.txt").write_text("".join([f"{header}\n", *rows]), "utf-8")
