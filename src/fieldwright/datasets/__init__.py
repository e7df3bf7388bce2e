"""Data sets on disk: made from problems, stored in The Well's layout, read through memory maps."""

from fieldwright.datasets.arrays import read_fields, write_fields
from fieldwright.datasets.cluster import Cluster
from fieldwright.datasets.draw import draw_samples
from fieldwright.datasets.generate import GenerationSummary, generate
from fieldwright.datasets.inspect import Inspection, inspect
from fieldwright.datasets.normalise import Normalizer
from fieldwright.datasets.read import FieldArray, FieldDataset
from fieldwright.datasets.store import ShardContent, StoredField, StoredScalar, write_shard

__all__ = [
    "Cluster",
    "FieldArray",
    "FieldDataset",
    "GenerationSummary",
    "Inspection",
    "Normalizer",
    "ShardContent",
    "StoredField",
    "StoredScalar",
    "draw_samples",
    "generate",
    "inspect",
    "read_fields",
    "write_fields",
    "write_shard",
]
