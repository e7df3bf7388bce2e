"""The data-free mesh mover (DMM): meshes by a network and by plain relaxation, and the operator that uses them.

Source: Hu, Wang, Ma, "Better Neural PDE Solvers Through Data-Free Mesh Movers", ICLR 2024 (arXiv 2312.05583).
"""

from fieldwright.gallery.data_free_mesh_mover.measure import reproduce_data_free_mesh_mover

__all__ = ["reproduce_data_free_mesh_mover"]
