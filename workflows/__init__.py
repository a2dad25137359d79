"""What happens in which order: Temporal workflows, without input or output of their own."""
