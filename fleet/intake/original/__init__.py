"""Translate the config files of the original project, brain-in-jar, into one experiment of Jarfleet."""
