"""The target space keeps the leading components of the teacher's vectors, in order, partly whitened."""

from __future__ import annotations

import numpy as np
import pytest

from latentscale.models.target_space import TargetSpace


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_components_are_uncorrelated_and_whitened_by_the_power(whitening: float) -> None:
    random = np.random.default_rng(0)
    deviations = np.arange(12, 0, -1)
    turn = np.linalg.qr(random.standard_normal((12, 12)))[0]
    vectors = ((random.standard_normal((5000, 12)) * deviations) @ turn + 3.0).astype(np.float32)
    mapped = TargetSpace.fit(vectors, dims=5, whitening=whitening)(vectors)
    assert mapped.shape == (5000, 5)
    assert mapped.dtype == np.float32
    covariance = np.cov(mapped.T)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), deviations[:5] ** (1 - whitening), rtol=0.05)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-2 * covariance.max())
    np.testing.assert_allclose(mapped.mean(axis=0), 0, atol=1e-3)
