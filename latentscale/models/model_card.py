"""Render the model card of a distilled model from its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DEFAULT_TEACHER = "sentence-transformers/all-MiniLM-L6-v2"


def model_card(provenance: Mapping[str, Any]) -> str:
    """Return the text of ``README.md``, with the model's origin, uses and licence."""
    teacher, table, settings = provenance["teacher"], provenance["table"], provenance["settings"]
    default = teacher["name"] == DEFAULT_TEACHER
    texts: Mapping[str, Any] = provenance.get("texts", {})
    facts = {name: value for name, value in settings.items() if name != "regression"} | {
        "command": provenance["command"],
        "teacher": teacher["name"],
        "teacher_sha256": teacher["sha256"]["model.safetensors"],
        "tokens": f"{table['tokens']:,}",
        "dims": table["dims"],
        "megabytes": f"{provenance['files']['model.safetensors']['bytes'] / 1e6:.1f}",
        "passages": f"{texts.get('passages', 0):,}",
        "words_added": f"{texts.get('words_added', 0):,}",
        "epochs": settings.get("regression", {}).get("epochs"),
    }
    method = _template("card_texts.md" if texts else "card_tokens.md").format(**facts).rstrip()
    return _template("card.md").format(
        **facts,
        licence="apache-2.0" if default else "other",
        method=method,
        notice=_template("card_notice.md") if default else "",
    )


def _template(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
