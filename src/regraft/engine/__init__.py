"""The engine: one loop for every plan, its checkpoints, and its processes. Names no method."""
