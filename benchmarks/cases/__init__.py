"""The cases, one module each: ``run(context)`` measures and returns a ``Result``."""
