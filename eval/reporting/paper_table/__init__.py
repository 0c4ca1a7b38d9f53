"""Tables for papers: one description, made from scores, and what it looks like in Markdown, LaTeX, HTML and CSV."""
