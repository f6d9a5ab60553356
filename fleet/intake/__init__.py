"""Read what the user asked for once, check it, and return it as typed values."""
