import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.measures.linear_cka import centred_gram, cka_from_hsic, pairwise_hsic
from zoo.measures.sampling import even_batches


@given(st.integers(4, 500), st.integers(4, 200))
def test_batches_cover_every_image_once_and_none_is_under_four(count, size):
    parts = even_batches(count, size)
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(count))
    sizes = {stop - start for start, stop in parts}
    assert min(sizes) >= 4
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= size or min(sizes) < 8


def test_a_few_images_more_do_not_make_the_estimate_worse():
    # Averaged over 40 draws of two noisy views of one factor; the truth is that of many images.
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(4, 6))

    def estimate(count):
        x = generator.normal(size=(count, 4))
        y = x @ mix + 2 * generator.normal(size=(count, 6))
        hsic = []
        for start, stop in even_batches(count, 128):
            grams = [centred_gram(torch.tensor(v[start:stop])).values for v in (x, y)]
            hsic.append(pairwise_hsic(torch.stack(grams), stop - start).numpy())
        return cka_from_hsic(np.mean(hsic, axis=0))[0, 1]

    truth = np.mean([estimate(2048) for _ in range(20)])
    error = {n: np.std([estimate(n) - truth for _ in range(60)]) for n in (128, 132)}
    assert error[132] < 1.5 * error[128]
