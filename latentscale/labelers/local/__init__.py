"""Labels by a chat model that runs in the job itself: its folder, its context, and what every such labeler shares."""

from __future__ import annotations

from latentscale.labelers.local.folder import ChatModel
from latentscale.labelers.local.labeler import LocalLabeler
from latentscale.labelers.local.options import TRANSPORT, LocalOptions
from latentscale.labelers.local.tokens import Fitted, PromptTokens

__all__ = ["TRANSPORT", "ChatModel", "Fitted", "LocalLabeler", "LocalOptions", "PromptTokens"]
