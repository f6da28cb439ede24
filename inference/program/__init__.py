"""Reading a Pyro program: its sites and plates, its observation, and its likelihood for all draws at once."""
