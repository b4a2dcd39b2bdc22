"""Pages that need no other file: Jinja2 templates with their style, and what fills them."""
