"""Common parts of labelers whose chat model runs in the job itself."""

from __future__ import annotations

from latentscale.labelers.local.folder import ChatModel
from latentscale.labelers.local.labeler import LocalLabeler
from latentscale.labelers.local.options import TRANSPORT, LocalOptions
from latentscale.labelers.local.tokens import Fitted, PromptTokens

__all__ = ["TRANSPORT", "ChatModel", "Fitted", "LocalLabeler", "LocalOptions", "PromptTokens"]
