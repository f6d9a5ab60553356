"""The fetched results of a run: one merged database, deaths, memory, comparisons, exports."""
