"""Videos on disk to windows in batches.

The data modules, which need Lightning and the decoders, are imported when they are first used: batches and
what is done to them need neither.
"""

from typing import TYPE_CHECKING

from abaw.lazy import lazily

if TYPE_CHECKING:
    from abaw.data.augment import Augmentation
    from abaw.data.batch import Batch
    from abaw.data.datamodule import AffWild2DataModule
    from abaw.data.feature_datamodule import FeatureDataModule

__all__ = ["AffWild2DataModule", "Augmentation", "Batch", "FeatureDataModule"]
__getattr__, __dir__ = lazily(
    __name__,
    {
        "AffWild2DataModule": "abaw.data.datamodule",
        "Augmentation": "abaw.data.augment",
        "Batch": "abaw.data.batch",
        "FeatureDataModule": "abaw.data.feature_datamodule",
    },
)
