"""The words every part is written in. Imports nothing of ours and names no method."""
