"""Parts of ``faces.py``.

- `settings`: everything the numbers depend on, and the pictures. `networks`: training of the completers.
- `baselines`: mean face, ridge, nearest neighbours, probabilistic PCA. `evaluation`: scores. `figures`: what is drawn.
"""
