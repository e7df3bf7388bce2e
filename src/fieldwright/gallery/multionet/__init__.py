"""MultiONet beside DeepONet: what the sum over several layers is worth.

Source: Zang and Koutsourelakis, "DGenNO: a novel physics-aware neural operator for solving forward and inverse PDE
problems based on deep, generative probabilistic modeling", J. Comput. Phys. 538, 2025 (arXiv 2502.06250).
"""

from fieldwright.gallery.multionet.measure import reproduce_multionet

__all__ = ["reproduce_multionet"]
