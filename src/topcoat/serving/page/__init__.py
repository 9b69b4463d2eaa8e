"""The page at ``/``: gradio components on the engine, mounted in the server's app."""
