"""The tools that say why nothing moves: `kff-live doctor`, `kff-live monitor` and `kff-live test-pattern`."""
