"""Recipes: an update as a function of an `Update`, one file each."""
