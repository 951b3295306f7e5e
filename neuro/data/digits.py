"""Handwritten digits, 8 x 8: 1797 real images that come with scikit-learn, no download.

Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI (1998); 13 + 30 writers, counts of
black pixels in 4 x 4 blocks, 0 to 16.
"""

from __future__ import annotations

import numpy as np

from neuro.data.split import Split, stratified


def digits(*, test_share: float = 0.2, seed: int = 0) -> Split:
    """Images (N, 1, 8, 8) / 16 and labels 0 to 9, split by class. Needs scikit-learn (extra [train])."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    x = (raw.images[:, None] / 16.0).astype(np.float32)
    return stratified(x, raw.target.astype(np.int64), test_share=test_share, seed=seed)
