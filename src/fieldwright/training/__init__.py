"""Training: a list of phases, one loop that runs, checkpoints and resumes them all."""

from fieldwright.training.batches import Batch, Normalization, Samples, TensorSamples
from fieldwright.training.data import TrainingData
from fieldwright.training.devices import launch_fabric
from fieldwright.training.interruption import TrainingStopped
from fieldwright.training.loop import TrainingSummary, train
from fieldwright.training.metrics import tensorboard_loggers
from fieldwright.training.monge_ampere import MongeAmpere, monitor_data
from fieldwright.training.objectives import Objective, RelativeError
from fieldwright.training.phases import Carried, Phase
from fieldwright.training.prediction import PhysicalPrediction, ValidationErrors

__all__ = [
    "Batch",
    "Carried",
    "MongeAmpere",
    "Normalization",
    "Objective",
    "Phase",
    "PhysicalPrediction",
    "RelativeError",
    "Samples",
    "TensorSamples",
    "TrainingData",
    "TrainingStopped",
    "TrainingSummary",
    "ValidationErrors",
    "launch_fabric",
    "monitor_data",
    "tensorboard_loggers",
    "train",
]
