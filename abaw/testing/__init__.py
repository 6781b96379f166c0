"""Checks to run on parts of one's own, in one's own tests."""

from abaw.testing.fusion_head import check_fusion_head

__all__ = ["check_fusion_head"]
