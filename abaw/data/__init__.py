"""Videos on disk to windows in batches."""

from abaw.data.augment import Augmentation
from abaw.data.batch import Batch
from abaw.data.datamodule import AffWild2DataModule
from abaw.data.feature_datamodule import FeatureDataModule

__all__ = ["AffWild2DataModule", "Augmentation", "Batch", "FeatureDataModule"]
