"""Measuring the gradient along time: record a pass, profile a layer."""

from unvanish.flow.profile import Profile, fit_rate, profile, profiles, reach_of
from unvanish.flow.recorder import Recording, Track, record

__all__ = ["Profile", "Recording", "Track", "fit_rate", "profile", "profiles", "reach_of", "record"]
