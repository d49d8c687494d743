"""Small worlds built on the spot, from what every Python carries or from a seed: for demos, claims and tests."""
