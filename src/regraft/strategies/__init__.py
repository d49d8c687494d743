"""Named strategies for streams of tasks: one method, one file."""
