"""Search spaces: choices, genotypes and ops with shapes (NumPy alone); `*_torch.py` holds the modules that compute."""
