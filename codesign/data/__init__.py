"""Data sets: readers that check fast and load on demand, with one fixed split."""
