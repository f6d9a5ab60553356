"""The original's config files, translated into one experiment."""
