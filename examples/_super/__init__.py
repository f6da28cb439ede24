"""Parts of ``super_resolution.py``.

- `settings`: everything the numbers depend on. `networks`: training and loading of the networks.
- `evaluation`: scores of enlarged test pictures, and of the predicted error of each pixel.
- `figures`: all figures. `own_picture`: a picture of the user.
"""
