"""The core that both products stand on; importing it costs nothing."""

__version__ = "0.1.0"
