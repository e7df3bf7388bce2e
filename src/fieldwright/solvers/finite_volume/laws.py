"""Hyperbolic conservation laws, u_t + Σ_d ∂_d f_d(u) = s: what a finite-volume scheme has to know of one."""

from __future__ import annotations

import abc

from jaxtyping import Float
from torch import Tensor


class ConservationLaw(abc.ABC):
    """States are (batch, 2 + d, *space): a density, d velocities or momenta, and one field more.

    Schemes store conserved fields and reconstruct primitive ones; `edges` and `flux` take primitive ones.
    """

    @property
    @abc.abstractmethod
    def kernel(self) -> int | None:
        """The number by which `lane_sweep` knows the law; None where it does not."""

    @property
    @abc.abstractmethod
    def constants(self) -> tuple[float, float]:
        """What the compiled kernels take: (adiabatic index or gravity, depth below which a layer is at rest)."""

    @abc.abstractmethod
    def conserved(self, primitive: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch field *space"]:
        """Conserved fields of primitive ones."""

    @abc.abstractmethod
    def primitive(self, conserved: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch field *space"]:
        """Primitive fields of conserved ones."""

    @abc.abstractmethod
    def primitive_rate(
        self, conserved: Float[Tensor, "batch field *space"], rate: Float[Tensor, "batch field *space"]
    ) -> Float[Tensor, "batch field *space"]:
        """How fast the primitive fields change where the conserved ones change at ``rate``."""

    @abc.abstractmethod
    def sound(self, primitive: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch *space"]:
        """The speed of waves relative to the flow."""

    @abc.abstractmethod
    def soundness(self, conserved: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch *space"]:
        """A number per cell that is positive where the state is one that can be: a density or pressure not negative."""

    @abc.abstractmethod
    def edges(
        self, primitive: Float[Tensor, "batch field *cells"], half_slopes: Float[Tensor, "batch field *cells"]
    ) -> tuple[Float[Tensor, "batch field *cells"], Float[Tensor, "batch field *cells"]]:
        """States at the lower and the upper edge of cells whose profiles rise by twice ``half_slopes``."""

    @abc.abstractmethod
    def advanced(
        self,
        low: Float[Tensor, "batch field *cells"],
        high: Float[Tensor, "batch field *cells"],
        here: Float[Tensor, "batch field *cells"],
        axis: int,
        ratio: Float[Tensor, "batch *one"],
    ) -> tuple[Float[Tensor, "batch field *cells"], Float[Tensor, "batch field *cells"]]:
        """Edge states half a time step later by the cell's own waves along ``axis``; ``ratio`` is Δt/h.

        Both edges change alike, by Taylor's series of the primitive form of the law about the cell's state ``here``. A
        cell that would not stay positive keeps its edges.
        """

    @abc.abstractmethod
    def flux(
        self, left: Float[Tensor, "batch field *faces"], right: Float[Tensor, "batch field *faces"], axis: int
    ) -> tuple[Float[Tensor, "batch field *faces"], Float[Tensor, "batch field *faces"], Float[Tensor, "batch *faces"]]:
        """The flux of conserved fields along ``axis`` as the left cell of a face sees it, as the right one does, and
        the speed of its fastest wave.

        The two fluxes differ by the force of whatever stands on the face.
        """

    @abc.abstractmethod
    def source(
        self, low: Float[Tensor, "batch field *cells"], high: Float[Tensor, "batch field *cells"], axis: int
    ) -> Float[Tensor, "batch field *cells"] | None:
        """The source s along ``axis`` times the cell's width, from the states at a cell's edges; None where zero."""
