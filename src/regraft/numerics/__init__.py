"""Mathematics that parts share, built once."""
