"""AWS: the stacks' templates, and what brings them into Prefect: the work pool and the blocks."""
