"""Continual learning with sparse masks: what is forgotten, and what not forgetting costs.

Source: Yildirim, Gok Yildirim, Sokar, Mocanu, Vanschoren, "Continual Learning with Dynamic Sparse Training: Exploring
Algorithms for Effective Model Updates", CPAL 2024 (arXiv 2308.14831).
"""

from fieldwright.gallery.dynamic_sparse.measure import reproduce_continual_learning

__all__ = ["reproduce_continual_learning"]
