"""What an image costs: computed FLOP without weights, measured usage, and money as arithmetic on either."""
