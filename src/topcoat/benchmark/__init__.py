"""One experiment: arms, each one way to make images, on the same subjects. Demo, frontier and study are its callers."""
