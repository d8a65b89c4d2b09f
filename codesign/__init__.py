"""codesign: hardware-aware neural architecture search and hardware/software co-design."""

__version__ = "0.1.0"
