"""What came home of a run: one merged database, deaths, memory, comparisons, exports."""
