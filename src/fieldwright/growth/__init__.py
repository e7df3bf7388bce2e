"""Growth: a larger network from a trained smaller one, with the optimizer's state, as plans that are data."""

from fieldwright.growth.blocks import Blocks, growing_blocks
from fieldwright.growth.depth import RandomBlocks, Stack, Zero
from fieldwright.growth.grow import Grown, Growth, Schedule, grow, output_change
from fieldwright.growth.members import BlockLayout, Joining, widened
from fieldwright.growth.merge import Merged, merge, recalibrate
from fieldwright.growth.orders import connection_rate, order_of_blocks, parse_order
from fieldwright.growth.plan import Axis, Copy, Draw, GrowthPlan, StateRule, TensorMap
from fieldwright.growth.ramp import Ramp
from fieldwright.growth.scales import Levels, Modes
from fieldwright.growth.templates import TemplateWeight, materialise, templated
from fieldwright.growth.width import Widen

__all__ = [
    "Axis",
    "BlockLayout",
    "Blocks",
    "Copy",
    "Draw",
    "Grown",
    "Growth",
    "GrowthPlan",
    "Joining",
    "Levels",
    "Merged",
    "Modes",
    "Ramp",
    "RandomBlocks",
    "Schedule",
    "Stack",
    "StateRule",
    "TemplateWeight",
    "TensorMap",
    "Widen",
    "Zero",
    "connection_rate",
    "grow",
    "growing_blocks",
    "materialise",
    "merge",
    "order_of_blocks",
    "output_change",
    "parse_order",
    "recalibrate",
    "templated",
    "widened",
]
