"""The launching surface: presets, stages and the `headwise` command."""
