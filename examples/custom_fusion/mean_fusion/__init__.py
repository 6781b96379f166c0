"""A fusion head of one's own, in a package of its own."""

from mean_fusion.head import MeanFusion

__all__ = ["MeanFusion"]
