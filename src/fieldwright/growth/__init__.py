"""Growth: wider and deeper networks from trained ones."""

from fieldwright.growth.blocks import BlockLayout, Joining, widened
from fieldwright.growth.merge import Merged, merge, recalibrate
from fieldwright.growth.templates import TemplateWeight, materialise, templated

__all__ = [
    "BlockLayout",
    "Joining",
    "Merged",
    "TemplateWeight",
    "materialise",
    "merge",
    "recalibrate",
    "templated",
    "widened",
]
