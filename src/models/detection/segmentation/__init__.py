"""Masks of what a detector found."""

from src.models.detection.segmentation.grounded_sam import GroundedSam
from src.models.detection.segmentation.segmenter import SEGMENTERS, Segmenter, mask_extents

__all__ = ["SEGMENTERS", "GroundedSam", "Segmenter", "mask_extents"]
