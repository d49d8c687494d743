"""Reports: one update as one page, as Markdown, as JSON."""
