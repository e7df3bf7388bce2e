"""A problem in time of one's own: Fisher's equation u_t = D u_xx + r u (1 - u) on a periodic line."""

from dataclasses import dataclass

from fieldwright.grids import Grid
from fieldwright.problems import Field, SpectralProblem, random_bumps


@dataclass(frozen=True)
class Fisher(SpectralProblem):
    """Fisher's equation, u_t = D u_xx + r u (1 - u) on a periodic line of length 100: density u -> density later."""

    resolution: int = 256
    diffusivity: float = 1.0
    growth: float | list[float] = 1.0  # a number, or [low, high] to draw one per sample
    duration: float = 10.0
    frames: int = 10
    steps: int | None = None

    state = (Field("density", "1", "u"),)
    numbers = (Field("growth", "1", "r", number=True),)

    @property
    def grid(self):
        return Grid((self.resolution,), "periodic", upper=(100.0,))

    def initial(self, indices, seed):
        return random_bumps(self.grid, indices, seed, count=(1, 4), widths=(2.0, 6.0), amplitudes=(0.1, 0.2))[:, None]

    def symbol(self, inputs):
        return -self.diffusivity * self.waves.squares

    def nonlinear(self, inputs):
        growth = self.number(inputs, "growth")
        values, waves = self.waves.backward, self.waves.forward
        return lambda spectrum: waves(growth * values(spectrum) * (1 - values(spectrum)))

    def laws(self, inputs, states, times):
        return {"resolved": self.resolution_law(states)}
