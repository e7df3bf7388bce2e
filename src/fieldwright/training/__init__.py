"""Training: a list of phases, one loop that runs, checkpoints and resumes them all."""

from fieldwright.training.batches import Batch, Normalization, Samples, TensorSamples
from fieldwright.training.callback import Callback, Step
from fieldwright.training.carried import Carried, Freeze, Preparation
from fieldwright.training.channel_layout import ChannelLayout
from fieldwright.training.data import TrainingData
from fieldwright.training.devices import launch_fabric
from fieldwright.training.interruption import TrainingStopped
from fieldwright.training.loop import TrainingSummary, train
from fieldwright.training.merged_members import MergeMembers
from fieldwright.training.metrics import tensorboard_loggers
from fieldwright.training.monge_ampere import MongeAmpere, monitor_data
from fieldwright.training.objectives import Objective, RelativeError
from fieldwright.training.parameter_groups import GroupRates
from fieldwright.training.phases import Phase, lead_times
from fieldwright.training.prediction import PhysicalPrediction, ValidationErrors
from fieldwright.training.roll_out import RollOut
from fieldwright.training.sources import FramePairs, LeadTimes
from fieldwright.training.trajectories import TensorTrajectories, Trajectories

__all__ = [
    "Batch",
    "Callback",
    "Carried",
    "ChannelLayout",
    "FramePairs",
    "Freeze",
    "GroupRates",
    "LeadTimes",
    "MergeMembers",
    "MongeAmpere",
    "Normalization",
    "Objective",
    "Phase",
    "PhysicalPrediction",
    "Preparation",
    "RelativeError",
    "RollOut",
    "Samples",
    "Step",
    "TensorSamples",
    "TensorTrajectories",
    "TrainingData",
    "TrainingStopped",
    "TrainingSummary",
    "Trajectories",
    "ValidationErrors",
    "launch_fabric",
    "lead_times",
    "monitor_data",
    "tensorboard_loggers",
    "train",
]
