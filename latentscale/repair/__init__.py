"""Repair of a workspace: damaged and missing objects are recomputed, where possible, under the same names."""

from __future__ import annotations

from latentscale.repair.workspace import Repairs, repair_workspace

__all__ = ["Repairs", "repair_workspace"]
