# For pyright where torch is not installed, as in `make test`: everything in it is of unknown type.
from typing import Any

def __getattr__(name: str) -> Any: ...
