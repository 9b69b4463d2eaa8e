"""What images measure, by themselves or against one another, without a network."""
