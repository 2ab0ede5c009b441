r"""Images of twice as many pixels, by Fourier transform.

A synthesized image holds no structure finer than its longest baseline, |u| ≤ u_max. Where pixels of twice the size
still sample that (2 cell · 2 u_max < 1), the costly gridding runs on those and the image is interpolated:

    I_fine = F⁻¹ [ T · F(I_coarse) ]         padded with zeros: values are kept

T is 1 up to u_max and falls as a cosine to 0 at the coarse Nyquist frequency, so that the interpolation reaches a
few pixels only: what is wrong at the edges, where the transform joins left to right, stays in a margin.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import fft


def taper(size: int, passed: float) -> NDArray[np.float32]:
    """Return T at the transform's frequencies, shape (size,); `passed` is the fraction of Nyquist left as it is."""
    distance = np.abs(np.fft.fftfreq(size)) * 2.0
    fall = np.clip((distance - passed) / (1.0 - passed), 0.0, 1.0)
    return np.asarray(np.cos(0.5 * np.pi * fall) ** 2 * (distance < 1.0), np.float32)


def double(coarse: NDArray[np.float32], passed: float, threads: int) -> NDArray[np.float32]:
    """Interpolate a square image of even size to twice as many pixels, keeping values.

    Parameters
    ----------
    coarse
        (n, n); pixel i becomes pixel 2 i.
    passed
        Fraction of its Nyquist frequency up to which the image holds structure.
    threads
        0 uses every core.
    """
    n = coarse.shape[0]
    window = taper(n, passed)
    small = fft.rfft2(coarse, workers=threads or -1)
    small *= np.float32(4.0) * window[:, None] * window[None, : n // 2 + 1]
    large = np.zeros((2 * n, n + 1), np.complex64)
    large[: n // 2, : n // 2 + 1] = small[: n // 2]
    large[-(n // 2) :, : n // 2 + 1] = small[n // 2 :]
    return np.asarray(fft.irfft2(large, s=(2 * n, 2 * n), workers=threads or -1))
