"""The blind study: people compare pictures of the three arms without knowing which is which.

`create` makes a folder, `app` lets raters vote in a browser, `result` says what their votes show.
"""
