"""The multigrid neural operator (MgNO): what its V-cycle can and cannot do, and how it races.

Source: He, Liu, Xu, "MgNO: Efficient Parameterization of Linear Operators via Multigrid", ICLR 2024 (arXiv 2310.19809).
"""

from fieldwright.gallery.multigrid_neural_operator.measure import reproduce_multigrid_neural_operator

__all__ = ["reproduce_multigrid_neural_operator"]
