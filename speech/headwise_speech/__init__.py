"""The speech recogniser."""
