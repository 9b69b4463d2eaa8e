"""HTML pages, each one file that needs no other: templates, charts, embedded pictures. Nothing else knows HTML."""
