"""A compiler for log densities of many chains: recorded tensor operations in, C out, one chain for each vector lane.

- `lower` turns recorded operations into `expressions`; what depends on data alone is computed there, once.
- `emit` decides what is stored, and writes loops, with matrix products in register tiles.
- `build` compiles them together with `vector.h` (functions of a vector) and `driver.h` (trajectories), and calls them.

Small networks spend their time between operations, not in them. With the chains as lanes every number of the model is
a vector register, no operation is too small to fill it, and a whole trajectory runs without Python.
"""
