"""Is y as often where it should be? Pulls, the PIT, regions, components; and what mends a predictive that is wrong."""
