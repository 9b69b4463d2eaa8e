"""The command line: one thin file per command (parse, build, call the library, print)."""
