"""Search strategies: ask for codes, tell their losses."""
