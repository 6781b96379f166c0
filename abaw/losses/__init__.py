"""Logits and targets to a loss."""

from abaw.losses.base import FrameLoss
from abaw.losses.focal import FocalLoss

__all__ = ["FocalLoss", "FrameLoss"]
