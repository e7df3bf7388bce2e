"""Poseidon's operator transformer (scOT): whether it is the published network, and what training on all pairs brings.

Source: Herde et al., "Poseidon: Efficient Foundation Models for PDEs", NeurIPS 2024 (arXiv 2405.19101).
"""

from fieldwright.gallery.operator_transformer.measure import reproduce_operator_transformer

__all__ = ["reproduce_operator_transformer"]
