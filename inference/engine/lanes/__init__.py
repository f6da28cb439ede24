"""A compiler from recorded tensor operations to C code that evaluates a log density with one chain per vector lane.

- `lower` turns recorded operations into `expressions`, and evaluates operations on data alone once.
- `plan` decides which values are stored; `emit` writes the loops, with matrix products in register tiles.
- `build` compiles the code with `vector.h` (functions of a vector) and `driver.h` (trajectories), and calls it.

For small networks the overhead between operations dominates. With one chain per lane every number of the model is a
vector register, every operation fills it, and a whole trajectory runs without Python.
"""
