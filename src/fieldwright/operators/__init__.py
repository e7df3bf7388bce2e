"""Operators: networks from fields to fields, on grids of any size."""

from fieldwright.operators.baselines import ResNet, UNet
from fieldwright.operators.branch_trunk import BranchTrunk
from fieldwright.operators.build import (
    OPERATORS,
    POINT_OPERATORS,
    build_operator,
    load_operator,
    parameter_count,
    save_operator,
)
from fieldwright.operators.deeponet import DeepONet, MultiONet
from fieldwright.operators.fine_tuning import ParameterGroup, fine_tuning_groups, for_channels
from fieldwright.operators.flops import forward_flops, step_flops
from fieldwright.operators.foreign import ForeignOperator, GridNeeds
from fieldwright.operators.fourier import FourierOperator
from fieldwright.operators.latent_spectral import LatentSpectralOperator
from fieldwright.operators.latent_spectral_points import LatentSpectralPointOperator
from fieldwright.operators.mesh_network import MeshNetwork
from fieldwright.operators.moving_mesh import MovingMeshOperator
from fieldwright.operators.multigrid import MultigridOperator
from fieldwright.operators.pretrained import TakenOver, load_pretrained
from fieldwright.operators.roll_out import roll_out
from fieldwright.operators.spatiotemporal import SpatiotemporalFourierOperator
from fieldwright.operators.spectral_output import SpectralOutputLayer
from fieldwright.operators.survey import OperatorFacts, survey
from fieldwright.operators.transformer import OperatorTransformer
from fieldwright.operators.vcycle import VCycle
from fieldwright.operators.walls import Walls

__all__ = [
    "OPERATORS",
    "POINT_OPERATORS",
    "BranchTrunk",
    "DeepONet",
    "ForeignOperator",
    "FourierOperator",
    "GridNeeds",
    "LatentSpectralOperator",
    "LatentSpectralPointOperator",
    "MeshNetwork",
    "MovingMeshOperator",
    "MultiONet",
    "MultigridOperator",
    "OperatorFacts",
    "OperatorTransformer",
    "ParameterGroup",
    "ResNet",
    "SpatiotemporalFourierOperator",
    "SpectralOutputLayer",
    "TakenOver",
    "UNet",
    "VCycle",
    "Walls",
    "build_operator",
    "fine_tuning_groups",
    "for_channels",
    "forward_flops",
    "load_operator",
    "load_pretrained",
    "parameter_count",
    "roll_out",
    "save_operator",
    "step_flops",
    "survey",
]
