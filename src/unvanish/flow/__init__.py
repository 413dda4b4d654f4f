"""Measuring the gradient along time and depth, and what the data need of it."""

from unvanish.data.dependency import Dependency, dependency
from unvanish.flow.finding.convert import as_ours
from unvanish.flow.finding.parts import Part
from unvanish.flow.finding.recorder import Recording, Track, record
from unvanish.flow.measuring.decomposition import Decomposition, decompose
from unvanish.flow.measuring.depth import DepthProfile, depth
from unvanish.flow.measuring.jacobian import Jacobian, Lyapunov, jacobian, lyapunov
from unvanish.flow.measuring.linear import Course, Linear, linear
from unvanish.flow.measuring.profile import Profile, fit_rate, profile, profiles, reach_of
from unvanish.flow.measuring.saturation import Activation, Memory, Saturation, saturation
from unvanish.flow.measuring.split import Split, split

__all__ = [
    "Activation",
    "Course",
    "Decomposition",
    "Dependency",
    "DepthProfile",
    "Jacobian",
    "Linear",
    "Lyapunov",
    "Memory",
    "Part",
    "Profile",
    "Recording",
    "Saturation",
    "Split",
    "Track",
    "as_ours",
    "decompose",
    "dependency",
    "depth",
    "fit_rate",
    "jacobian",
    "linear",
    "lyapunov",
    "profile",
    "profiles",
    "reach_of",
    "record",
    "saturation",
    "split",
]
