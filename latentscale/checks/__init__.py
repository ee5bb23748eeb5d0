"""The checks of `latentscale verify`, a module for each kind of object."""
