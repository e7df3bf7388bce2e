"""Depth stacking: a deep network from a trained shallow one, against the same network from scratch.

Source: Du et al., "Stacking Your Transformers: A Closer Look at Model Growth for Efficient LLM Pre-Training", NeurIPS
2024.
"""

from fieldwright.gallery.depth_stacking.measure import reproduce_depth_stacking

__all__ = ["reproduce_depth_stacking"]
