"""The benchmark suite, imported as `opdsl.bench` and run by `opdsl bench`. docs/benchmarks.md says how it measures.

Modules import each other relatively, so that bench/regression.py can also load this folder as a package of its own and
drive an `opdsl` of another revision with it.
"""
