"""A wheel that brings kernels is for one kind of machine; one without is for all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

READY = Path(__file__).parent / "src" / "unvanish" / "engine" / "native" / "ready"


class Platform(BuildHookInterface):  # type: ignore[type-arg]
    """Names the platform of a wheel by the kernels that lie in the package."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Set the tag: any Python 3, and the machine for which `release/kernels.py` has built."""
        levels = sorted(path.name for path in READY.glob("*/")) if READY.is_dir() else []
        if version == "editable" or not levels:
            return
        machine = "aarch64" if levels == ["aarch64"] else "x86_64"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{os.environ.get('UNVANISH_PLATFORM', f'linux_{machine}')}"
