# For pyright where transformers is not installed, as in `make test`: everything in it is of unknown type.
from typing import Any

def __getattr__(name: str) -> Any: ...
