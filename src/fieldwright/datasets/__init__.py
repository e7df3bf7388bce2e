"""Data sets on disk: made from problems, stored in The Well's layout, read through memory maps."""

from fieldwright.datasets.generate import GenerationSummary, generate
from fieldwright.datasets.normalise import Normalizer
from fieldwright.datasets.read import FieldArray, FieldDataset
from fieldwright.datasets.store import ShardContent, StoredField, StoredScalar, write_shard

__all__ = [
    "FieldArray",
    "FieldDataset",
    "GenerationSummary",
    "Normalizer",
    "ShardContent",
    "StoredField",
    "StoredScalar",
    "generate",
    "write_shard",
]
