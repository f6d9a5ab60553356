"""Benchmarks. They assert nothing about time; `make bench-placement` prints and writes down what it measured."""
