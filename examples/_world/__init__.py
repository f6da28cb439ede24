"""Parts of ``world_model.py``.

- `settings`: everything the numbers depend on. `networks`: training and loading of the networks.
- `positions`: a network that reads the true positions, compared with the exact distribution.
- `pictures`: autoencoder and network of its latents; branches, ghosts and errors of decoded dreams.
- `split`: noise, ambiguity and lack of data, in the corridor of training and in one never seen.
- `control`: a controller that is trained in dreams and tested in the corridor.
- `figures`, `film`: all figures, and the dreams as an animation.
"""
