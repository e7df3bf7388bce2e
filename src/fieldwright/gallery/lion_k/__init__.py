"""Lion-K: what weight decay makes of a momentum's subgradient, and what the choice of K is worth.

Source: Chen, Liu, Liang, Liu, "Lion Secretly Solves Constrained Optimization: As Lyapunov Predicts", ICLR 2024 (arXiv
2310.05898).
"""

from fieldwright.gallery.lion_k.measure import reproduce_lion_k

__all__ = ["reproduce_lion_k"]
