"""How a report looks: sections, tables and words, rendered to one HTML file."""
