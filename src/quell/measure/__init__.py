"""What can be seen: instruments that read a body, with their published error."""
