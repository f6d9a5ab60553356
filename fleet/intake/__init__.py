"""What the user asked for, read once, checked, and typed."""
