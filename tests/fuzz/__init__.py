"""A mutation fuzzer over everything that reads bytes or text from outside: `make fuzz`, and a slice of it in CI.

seeds.py    valid inputs of each target, small and of several shapes, made anew each time
edits*.py   what is done to them, by the kind of the bytes
mutants.py  mutant number i of a seed: the same on every machine
targets.py  who reads them, and what a refusal must say
judge.py    whether what a target did is right: refused with a place, or scored alike by every walker and the oracle
oracle.py   the libraries that models come from, in a process of their own: they crash on some mutants
worker.py   judges mutants in a process with limits of memory, CPU and files
runner.py   starts workers, notices a crash, a hang and a leak, keeps the mutant
"""
