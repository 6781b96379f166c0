"""Encoders: face crops and sound in, one feature vector a frame out.

``import abaw.encoders`` stays cheap: transformers and torchaudio are imported when an encoder that needs them
is built.
"""

from abaw.encoders.base import AudioEncoder, VisualEncoder
from abaw.encoders.conv import ConvVisualEncoder
from abaw.encoders.frames import FrameEncoder
from abaw.encoders.hf_audio import HFAudioEncoder
from abaw.encoders.hf_visual import HFVisualEncoder
from abaw.encoders.logmel import LogMelEncoder
from abaw.encoders.precomputed import PrecomputedEncoder
from abaw.encoders.sound import SoundEncoder

__all__ = [
    "AudioEncoder",
    "ConvVisualEncoder",
    "FrameEncoder",
    "HFAudioEncoder",
    "HFVisualEncoder",
    "LogMelEncoder",
    "PrecomputedEncoder",
    "SoundEncoder",
    "VisualEncoder",
]
