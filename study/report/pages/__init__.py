"""The report as text: HTML page, terminal, Markdown, JSON, CSV."""
