"""Which pieces of ground, in which order: layouts, and order, shares and resuming as arithmetic."""
