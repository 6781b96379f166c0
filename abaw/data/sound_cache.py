"""The sound of a whole corpus: opened from the cache, decoded where it isn't there."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.progress import track

from abaw.data.audio import SoundTrack, cache_path, cache_sound, open_sound
from abaw.errors import InputError
from abaw.files import check_utf8


def open_sounds(sources: Mapping[str, Path], cache_dir: Path, num_threads: int) -> dict[str, SoundTrack]:
    """Open the sound of all raw videos; what the cache lacks is decoded first, with a progress bar.

    Args:
        sources: The raw videos by name.
        cache_dir: The cache, made if need be. Several corpora may share it: an entry's name says which video
            it is of. One whose video has changed since stays, as another process may have it open.
        num_threads: How many videos are decoded at once; FFmpeg works outside Python's lock.

    Raises:
        InputError: A video can't be read, or the cache can't be written.
    """
    check_utf8(cache_dir)
    caches = {name: cache_path(source, name, cache_dir) for name, source in sources.items()}
    opened = {name: open_sound(source, caches[name]) for name, source in sources.items()}
    sounds = {name: sound for name, sound in opened.items() if sound is not None}
    missing = [name for name in sources if name not in sounds]
    if missing:
        _check_writable(cache_dir)
        with ThreadPoolExecutor(max(1, num_threads)) as pool:
            jobs = {pool.submit(cache_sound, sources[name], caches[name]): name for name in missing}
            try:
                for job in track(as_completed(jobs), description="Decoding sound", total=len(jobs)):
                    sounds[jobs[job]] = job.result()
            except OSError as error:
                raise _not_writable(cache_dir, error) from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    return {name: sounds[name] for name in sources}


def _check_writable(cache_dir: Path) -> None:
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(cache_dir, error) from error
    if not os.access(cache_dir, os.W_OK):
        raise _not_writable(cache_dir, "permission denied")


def _not_writable(cache_dir: Path, reason: object) -> InputError:
    return InputError(f"{cache_dir}: the sound cache can't be written there; set cache_dir. ({reason})")
