"""Repair of a workspace: what can be computed again is made again, under the same names."""

from __future__ import annotations

from latentscale.repair.workspace import Repairs, repair_workspace

__all__ = ["Repairs", "repair_workspace"]
