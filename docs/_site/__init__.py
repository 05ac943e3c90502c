"""What the site adds to pages that are plain Markdown."""
