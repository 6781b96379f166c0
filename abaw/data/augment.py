"""Random changes to a training window, one draw for all its frames."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from abaw.ranges import check_number


@dataclass(frozen=True)
class Augmentation:
    """Changes a window's pictures and sound; every frame of a window is changed alike.

    Args:
        flip: Probability of mirroring left and right.
        crop: Largest share of the side that is cut off, 0…1; the rest is scaled up again.
        brightness: Largest relative change of brightness.
        contrast: Largest relative change of contrast.
        color: Largest relative change of each colour channel.
        erase: Probability of covering a box of a tenth to half the side by one colour.
        gain: Largest change of loudness, dB.
        noise: Largest standard deviation of white noise added to the sound, full scale being 1.

    Raises:
        InputError: If one is out of range.
    """

    flip: float = 0.5
    crop: float = 0.15
    brightness: float = 0.2
    contrast: float = 0.2
    color: float = 0.1
    erase: float = 0.25
    gain: float = 6.0
    noise: float = 0.005

    def __post_init__(self) -> None:
        check_number(0, 1, flip=self.flip, erase=self.erase, noise=self.noise)
        check_number(0, 1, below=True, crop=self.crop)
        check_number(0, 1, brightness=self.brightness, contrast=self.contrast, color=self.color)
        check_number(0, 60, gain=self.gain)

    def pictures(self, pictures: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Change the pictures of one window.

        Args:
            pictures: uint8 (T, H, W, 3), RGB.
            rng: Where the draw comes from; the number of draws does not depend on T.

        Returns:
            uint8 (T, H, W, 3), new.
        """
        rows, columns = self._draw_box(pictures.shape[1:3], 1 - rng.uniform(0, self.crop), rng)
        flip = rng.random() < self.flip
        table = self._draw_table(rng)
        changed = np.empty_like(pictures)
        for source, target in zip(pictures, changed, strict=True):
            cv2.resize(source[rows, columns], target.shape[1::-1], dst=target)
            if flip:
                cv2.flip(target, 1, dst=target)
            cv2.LUT(target, table, dst=target)
        rows, columns = self._draw_box(pictures.shape[1:3], rng.uniform(0.1, 0.5), rng)
        color = rng.integers(0, 256, 3)
        if rng.random() < self.erase:
            changed[:, rows, columns] = color
        return changed

    def sound(self, sound: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Change the sound of one window, float32 (S,), by a gain and noise; new, within -1…1."""
        gain = 10 ** (rng.uniform(-self.gain, self.gain) / 20)
        deviation = rng.uniform(0, self.noise)
        noise = rng.standard_normal(sound.shape, dtype=np.float32)
        return np.clip(sound * np.float32(gain) + noise * np.float32(deviation), -1, 1)

    def _draw_box(self, size: tuple[int, ...], scale: float, rng: np.random.Generator) -> tuple[slice, slice]:
        """Rows and columns of a box somewhere in a picture of ``size``, its sides ``scale`` times as long."""
        height, width = (max(1, round(side * scale)) for side in size)
        top, left = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
        return slice(top, top + height), slice(left, left + width)

    def _draw_table(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """What becomes of each value of each channel, (1, 256, 3)."""
        brightness = 1 + rng.uniform(-self.brightness, self.brightness)
        contrast = 1 + rng.uniform(-self.contrast, self.contrast)
        color = 1 + rng.uniform(-self.color, self.color, 3)
        values = (np.arange(256.0) - 127.5) * contrast + 127.5
        return np.clip(values[None, :, None] * brightness * color, 0, 255).round().astype(np.uint8)
