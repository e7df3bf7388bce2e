"""Problems that evolve in time, u_t = F(u; a): a state u and coefficients a that stay.

An instance is a state with its coefficients; its output is the state one frame later. So a trajectory of n frames holds
n instances, a surrogate that has learnt the map is applied again and again, and everything that reads a `Problem` reads
one of these.

How accurate a stored trajectory is in time, is measured and not assumed: each sample is integrated with N time steps
per frame and again with 2 N, and accepted when the second differs from the first by at most the tolerance, at every
frame; else N is doubled for that sample alone. The pilot of a dataset finds the N to begin with.
"""

from __future__ import annotations

import abc
import math
import re
import time
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldwright.errors import InputError, SolverError
from fieldwright.problems.base import Field, Problem, Settled
from fieldwright.problems.laws import Law
from fieldwright.progress import SILENT, Reporter
from fieldwright.solvers import Solution
from fieldwright.solvers.threads import on_threads

DOUBLINGS = 12
"""How often the time steps are doubled before an instance is given up; `DOUBLINGS_AFTER` times where a pilot began."""
DOUBLINGS_AFTER = 4

# Numbers of a block of samples that one thread integrates: its fields share the cache of a core.
_BLOCK_NUMBERS = 1 << 17
_METHOD = re.compile(r"(\d+) steps(, checked)?")


class EvolutionProblem(Problem):
    """u_t = F(u; a) from a state u at time 0 to ``duration``, stored at ``frames`` equal intervals.

    A subclass is a frozen dataclass that declares these three among its settings and states the abstract members.

    ``duration``  the last stored time
    ``frames``    stored intervals, so that a trajectory has ``frames + 1`` states, the first among them
    ``steps``     time steps per frame; None: as many as the tolerance needs, found and checked per sample

    Class variables:

    ``state``         the fields that evolve: the outputs, and the first of the inputs
    ``coefficients``  the fields (or numbers) that do not: the other inputs
    ``adaptive``      True where the integrator chooses its steps from the state (a CFL number); then there is no number
                      of steps to double, and ``steps`` is the least per frame
    """

    duration: float
    frames: int
    steps: int | None

    state: ClassVar[tuple[Field, ...]]
    coefficients: ClassVar[tuple[Field, ...]] = ()
    adaptive: ClassVar[bool] = False
    steady: ClassVar[bool] = False
    rtol: ClassVar[float] = 1e-5

    @property
    def inputs(self) -> tuple[Field, ...]:  # type: ignore[override]
        return (*self.state, *self.coefficients)

    @property
    def outputs(self) -> tuple[Field, ...]:  # type: ignore[override]
        return self.state

    @property
    def interval(self) -> float:
        """Time from one frame to the next."""
        return self.duration / self.frames

    @property
    def times(self) -> Float[Tensor, " time"]:
        return torch.linspace(0.0, self.duration, self.frames + 1, dtype=torch.float64)

    @abc.abstractmethod
    def rate(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_out *space"]:
        """F(u; a) on the grid, differentiable in the inputs."""

    @abc.abstractmethod
    def integrate(
        self, inputs: Float[Tensor, "batch channel *space"], *, frames: int, steps: int
    ) -> Float[Tensor, "batch time channel_out *space"]:
        """The states after 1, 2, ..., ``frames`` intervals, each of ``steps`` equal time steps (adaptive: at least so
        many). An instance that blows up holds NaN or infinity and leaves the others alone."""

    @abc.abstractmethod
    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        """What is conserved or dissipated, by name, along ``states`` that began as ``inputs`` at time 0."""

    def least_steps(self, inputs: Float[Tensor, "batch channel *space"]) -> int:
        """The fewest time steps per frame that are stable for all of these instances."""
        return 1

    def check_settings(self, name: str) -> None:
        """Errors: `InputError` for a duration, a number of frames or of steps that is not positive."""
        if not 0 < self.duration < math.inf:
            raise InputError(f"{name}: duration = {self.duration}; a positive number is needed")
        if not (isinstance(self.frames, int) and self.frames >= 1):
            raise InputError(f"{name}: frames = {self.frames}; a whole number of at least 1 is needed")
        if self.steps is not None and not (isinstance(self.steps, int) and self.steps >= 1):
            raise InputError(f"{name}: steps = {self.steps}; a whole number of at least 1 is needed, or null")

    def solve(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        *,
        rtol: float | None = None,
        method: str = "auto",
        guess: Float[Tensor, "batch channel_out *space"] | None = None,
    ) -> tuple[Float[Tensor, "batch channel_out *space"], Solution]:
        """The states one frame later. ``guess`` has no effect: a state is stepped forward, not iterated for."""
        states, solution = self._checked_trajectory(inputs, 1, rtol, method)
        return states[:, 1], solution

    def trajectory(
        self, inputs: Float[Tensor, "batch channel *space"], *, rtol: float | None = None, method: str = "auto"
    ) -> tuple[Float[Tensor, "batch time channel_out *space"], Solution]:
        """The states at all `times`, the first included.

        ``method`` is "auto", "N steps" for N time steps a frame without a check, or "N steps, checked" for a pilot's N.
        In the `Solution` ``residual`` is the largest relative L2 change of a frame when the steps are halved (NaN where
        nothing was compared), ``iterations`` the steps per frame; ``converged`` says that this change is within
        ``rtol``, that all is finite and that every law holds.

        Errors: `InputError` for inputs that do not fit, an unknown method, or unstable ``steps``.
        """
        return self._checked_trajectory(inputs, self.frames, rtol, method)

    def residual(
        self, inputs: Float[Tensor, "batch channel *space"], outputs: Float[Tensor, "batch channel_out *space"]
    ) -> Float[Tensor, "batch channel_out *space"]:
        """The defect of one frame under fourth-order Hermite-Simpson collocation, in units of the state per time:

            (u₁ - u₀)/Δ - (F₀ + 4 F_m + F₁)/6,   F_m = F(u_m),   u_m = (u₀ + u₁)/2 + Δ (F₀ - F₁)/8.

        Of the exact solution it is O(Δ⁴). The time derivative is that of the two states, never of the equation, so that
        it says something about any prediction.

        Source: the three-stage Lobatto IIIA method; Hairer, Nørsett, Wanner, Solving ODEs I, II.7.
        """
        first, last, interval = inputs[:, : len(self.state)], outputs, self.interval
        rate_first, rate_last = self.rate(inputs), self.rate(self.later(inputs, last, interval))
        middle = (first + last) / 2 + interval / 8 * (rate_first - rate_last)
        rate_middle = self.rate(self.later(inputs, middle, interval / 2))
        return (last - first) / interval - (rate_first + 4 * rate_middle + rate_last) / 6

    def later(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch channel_out *space"],
        elapsed: float,
    ) -> Float[Tensor, "batch channel *space"]:
        """The instances that begin with ``states``, a time ``elapsed`` after ``inputs``; what stays stays."""
        parts = [states, inputs[:, len(self.state) :].to(states)]
        if self.clock:
            place = [f.name for f in self.coefficients].index(self.clock)
            moved = parts[1].clone()
            moved[:, place] += elapsed
            parts[1] = moved
        return torch.cat(parts, 1)

    def balance(
        self, inputs: Float[Tensor, "batch channel *space"], outputs: Float[Tensor, "batch channel_out *space"]
    ) -> dict[str, Float[Tensor, " batch"]]:
        """The defect of each of the problem's `laws` over one frame."""
        states = torch.stack([inputs[:, : len(self.state)].to(outputs), outputs], 1)
        times = torch.tensor([0.0, self.interval], dtype=torch.float64)
        return {name: law.defect()[:, -1] for name, law in self.laws(inputs, states, times).items()}

    def guess(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_out *space"]:
        """Persistence: the state itself."""
        return inputs[:, : len(self.state)]

    def settle(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        *,
        rtol: float,
        method: str = "auto",
        samples: int | None = None,
        reporter: Reporter = SILENT,
    ) -> Settled:
        """The number of time steps to begin with: the first that suffices for four in five of the pilot's instances."""
        if method != "auto":
            self._steps_of(method)
            return Settled(method)
        if self.adaptive or self.steps is not None:
            method = f"{self.steps or 1} steps"
            return Settled(method, "steps chosen by the CFL number" if self.adaptive else "as the problem's steps say")
        _, solution = self.trajectory(inputs, rtol=rtol)
        counts = solution.iterations[solution.converged].sort().values
        if not len(counts):
            raise SolverError(
                f"pilot: none of {len(inputs)} samples reached rtol {rtol:g} with up to"
                f" {int(solution.iterations.max())} time steps per frame; ask for a looser rtol"
            )
        steps = int(counts[min(len(counts) - 1, math.ceil(0.8 * len(counts)) - 1)])
        return Settled(
            f"{steps} steps, checked", f"halving them changes four in five of {len(inputs)} pilots by at most {rtol:g}"
        )

    def check_method(self, method: str) -> None:
        self._steps_of(method)

    def _steps_of(self, method: str) -> tuple[int | None, bool]:
        """(steps per frame, whether they are checked by halving) of a method's name; None: to be found."""
        if method == "auto":
            return (self.steps or 1, False) if self.adaptive or self.steps is not None else (None, True)
        found = _METHOD.fullmatch(method)
        if found is None or int(found[1]) < 1:
            raise InputError(
                f"solve: method '{method}' is for steady problems; in time there are 'auto' and 'N steps' (a frame)"
            )
        return int(found[1]), found[2] is not None and not self.adaptive

    @torch.no_grad()
    def _checked_trajectory(
        self, inputs: Tensor, frames: int, rtol: float | None, method: str
    ) -> tuple[Float[Tensor, "batch time channel_out *space"], Solution]:
        began = time.perf_counter()
        self.check_inputs(inputs)
        rtol = self.rtol if rtol is None else rtol
        steps, checked = self._steps_of(method)
        inputs = inputs.double()
        if len(inputs) and not self.adaptive:
            least = self.least_steps(inputs)
            if self.steps is not None and self.steps < least:
                raise InputError(
                    f"solve: {self.steps} steps of {self.interval / self.steps:.3g} per frame are unstable for these"
                    f" instances; {least} or more are needed, or steps: null"
                )
            steps = max(1, least) if steps is None else steps
        steps = steps or 1
        if checked:
            # The check needs a first answer to compare with; a pilot's N is the one that is to be accepted.
            start, doublings = (steps, DOUBLINGS) if method == "auto" else (max(1, steps // 2), DOUBLINGS_AFTER)
            states, counts, change = self._doubled(inputs, frames, start, doublings, rtol)
        else:
            states = self._blocks(inputs, frames, steps)
            counts = torch.full((len(inputs),), steps)
            change = torch.full((len(inputs),), torch.nan, dtype=torch.float64)
        states = torch.cat([inputs[:, None, : len(self.state)], states], 1)
        converged = self._sound(inputs, states)
        if checked:
            converged &= (change <= rtol).to(converged.device)
        return states, Solution(
            values=states,
            converged=converged,
            iterations=counts,
            residual=change,
            seconds=time.perf_counter() - began,
            method=method if method != "auto" else f"{int(counts.max()) if len(counts) else steps} steps",
        )

    def _doubled(
        self, inputs: Tensor, frames: int, steps: int, doublings: int, rtol: float
    ) -> tuple[Float[Tensor, "batch time channel_out *space"], Tensor, Float[Tensor, " batch"]]:
        """States, steps per frame and the last halving's change, with steps doubled per sample until it is <= rtol."""
        states = self._blocks(inputs, frames, steps)
        counts = torch.full((len(inputs),), steps)
        change = torch.full((len(inputs),), torch.inf, dtype=torch.float64)
        for _ in range(doublings):
            left = (~(change <= rtol)).nonzero().flatten()
            if not len(left):
                break
            steps *= 2
            finer = self._blocks(inputs[left.to(inputs.device)], frames, steps)
            coarser = states[left.to(states.device)]
            size = finer.flatten(2).norm(dim=2)
            moved = (finer - coarser).flatten(2).norm(dim=2)
            relative = torch.where(moved == 0, 0.0, moved / size)
            # A frame that is NaN on either side has not settled: NaN must not pass the comparison.
            change[left] = relative.nan_to_num(nan=torch.inf).amax(1).cpu()
            counts[left] = steps
            states[left.to(states.device)] = finer
        return states, counts, change

    def _blocks(self, inputs: Tensor, frames: int, steps: int) -> Float[Tensor, "batch time channel_out *space"]:
        """`integrate`, with blocks of the batch on threads."""
        if inputs.device.type != "cpu" or not len(inputs):
            return self.integrate(inputs, frames=frames, steps=steps)
        size = max(1, _BLOCK_NUMBERS // (self.grid.points * len(self.state)))
        places = [slice(i, i + size) for i in range(0, len(inputs), size)]
        return torch.cat(on_threads(lambda place: self.integrate(inputs[place], frames=frames, steps=steps), places))

    def _sound(self, inputs: Tensor, states: Tensor) -> Bool[Tensor, " batch"]:
        """Which trajectories are finite and keep every law within its tolerance."""
        sound = states.flatten(1).isfinite().all(1)
        times = torch.arange(states.shape[1], dtype=torch.float64, device=states.device) * self.interval
        for law in self.laws(inputs, states, times).values():
            sound &= (law.defect() <= law.tolerance).all(1)
        return sound
