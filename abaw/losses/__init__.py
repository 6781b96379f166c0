"""Logits and targets to a loss."""

from abaw.losses.balanced_softmax import BalancedSoftmaxLoss
from abaw.losses.base import FrameLoss
from abaw.losses.focal import FocalLoss
from abaw.losses.logit_adjusted import LogitAdjustedLoss
from abaw.losses.torch_loss import TorchLoss
from abaw.losses.weights import class_weights

__all__ = ["BalancedSoftmaxLoss", "FocalLoss", "FrameLoss", "LogitAdjustedLoss", "TorchLoss", "class_weights"]
