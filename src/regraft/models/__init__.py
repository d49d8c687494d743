"""Families of model: one adapter each, never one per method."""
