"""Training: a list of phases, one loop that runs, checkpoints and resumes them all."""

from fieldwright.training.batches import Batch, Normalization, Samples, TensorSamples
from fieldwright.training.callback import Callback, Step
from fieldwright.training.carried import Carried, Freeze, Preparation
from fieldwright.training.channel_layout import ChannelLayout
from fieldwright.training.data import TrainingData
from fieldwright.training.devices import launch_fabric
from fieldwright.training.dynamic_sparse import DynamicSparse
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
from fieldwright.training.sparsity import SparseRules
from fieldwright.training.task_phases import BeginTask
from fieldwright.training.task_sequence import SequenceSummary, TaskMatrix, TaskPlan, train_tasks
from fieldwright.training.task_storage import (
    Certificate,
    certify,
    export_task,
    load_certificates,
    load_tasks,
    save_tasks,
)
from fieldwright.training.tasks import ContinualOperator
from fieldwright.training.trajectories import TensorTrajectories, Trajectories

__all__ = [
    "Batch",
    "BeginTask",
    "Callback",
    "Carried",
    "Certificate",
    "ChannelLayout",
    "ContinualOperator",
    "DynamicSparse",
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
    "SequenceSummary",
    "SparseRules",
    "Step",
    "TaskMatrix",
    "TaskPlan",
    "TensorSamples",
    "TensorTrajectories",
    "TrainingData",
    "TrainingStopped",
    "TrainingSummary",
    "Trajectories",
    "ValidationErrors",
    "certify",
    "export_task",
    "launch_fabric",
    "lead_times",
    "load_certificates",
    "load_tasks",
    "monitor_data",
    "save_tasks",
    "tensorboard_loggers",
    "train",
    "train_tasks",
]
