"""Parts of ``translation.py``.

- `settings`: everything the numbers depend on, and the domains. `networks`: training and loading.
- `digits`: translated digits, judged by classifiers. `clothes`: clothes and outlines, judged on hidden pairs.
- `figures`: all figures.
"""
