"""Growth: a larger network from a trained smaller one, with the optimizer's state, as plans that are data."""

from fieldwright.growth.blocks import Blocks, growing_blocks
from fieldwright.growth.depth import RandomBlocks, Stack, Zero
from fieldwright.growth.grow import Grown, Growth, Schedule, grow, output_change
from fieldwright.growth.orders import connection_rate, order_of_blocks, parse_order
from fieldwright.growth.plan import Axis, Copy, Draw, GrowthPlan, StateRule, TensorMap
from fieldwright.growth.scales import Levels, Modes
from fieldwright.growth.width import Widen

__all__ = [
    "Axis",
    "Blocks",
    "Copy",
    "Draw",
    "Grown",
    "Growth",
    "GrowthPlan",
    "Levels",
    "Modes",
    "RandomBlocks",
    "Schedule",
    "Stack",
    "StateRule",
    "TensorMap",
    "Widen",
    "Zero",
    "connection_rate",
    "grow",
    "growing_blocks",
    "order_of_blocks",
    "output_change",
    "parse_order",
]
