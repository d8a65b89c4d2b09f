"""Conformance kits for spaces, simulators and strategies: run them on your own."""
