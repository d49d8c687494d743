"""Text for language models: read and checked, tokenised once, packed into blocks."""
