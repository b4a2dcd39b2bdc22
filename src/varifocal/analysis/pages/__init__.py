"""Self-contained HTML pages: shared Jinja2 templates, their style, and the code that renders them."""
