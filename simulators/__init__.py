"""Accelerator simulators: workloads as loop nests, vectorised cost models, presets. Needs NumPy alone."""
