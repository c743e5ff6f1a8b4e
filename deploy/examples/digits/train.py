"""Trains the network whose weights digits.weights holds.

    pip install numpy scikit-learn
    python train.py

The digits are those of scikit-learn, which got them from the UCI Machine Learning Repository: 1797 of
8 by 8 pixels, from 0 to 16. A fifth of them is held out, never trained on, and says how good it is.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

SEED = 7
HIDDEN = 32
EPOCHS = 60
BATCH = 32
STEP = 0.002
DECAY = 1e-3
"""Of the weights, with each step: what is small generalises."""

WEIGHTS = Path(__file__).with_name("digits.weights")

Layer = tuple[np.ndarray, np.ndarray]


def forward(layers: list[Layer], pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the hidden neurons are, and the probability of each digit."""
    (hidden_weights, hidden_bias), (output_weights, output_bias) = layers
    hidden = np.maximum(pixels @ hidden_weights.T + hidden_bias, 0)
    scores = hidden @ output_weights.T + output_bias
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, scores / scores.sum(axis=1, keepdims=True)


def gradients(layers: list[Layer], pixels: np.ndarray, digits: np.ndarray) -> list[Layer]:
    """Of the cross-entropy, by each weight and bias."""
    hidden, error = forward(layers, pixels)
    error[np.arange(len(digits)), digits] -= 1
    error /= len(digits)
    hidden_error = (error @ layers[1][0]) * (hidden > 0)
    return [
        (hidden_error.T @ pixels, hidden_error.sum(axis=0)),
        (error.T @ hidden, error.sum(axis=0)),
    ]


def train(pixels: np.ndarray, digits: np.ndarray, random: np.random.Generator) -> list[Layer]:
    """Adam (Kingma and Ba, 2015), over batches in an order of chance."""
    layers = [
        (random.normal(0, np.sqrt(2 / inputs), (outputs, inputs)), np.zeros(outputs))
        for inputs, outputs in ((pixels.shape[1], HIDDEN), (HIDDEN, 10))
    ]
    means = [[np.zeros_like(each) for each in layer] for layer in layers]
    squares = [[np.zeros_like(each) for each in layer] for layer in layers]
    steps = 0
    for _ in range(EPOCHS):
        order = random.permutation(len(digits))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            steps += 1
            for layer, slopes, mean, square in zip(
                layers, gradients(layers, pixels[batch], digits[batch]), means, squares, strict=True
            ):
                for i, slope in enumerate(slopes):
                    mean[i] += 0.1 * (slope - mean[i])
                    square[i] += 0.001 * (slope**2 - square[i])
                    expected = mean[i] / (1 - 0.9**steps)
                    spread = np.sqrt(square[i] / (1 - 0.999**steps))
                    layer[i][:] -= STEP * (expected / (spread + 1e-8) + DECAY * layer[i])
    return layers


def main() -> None:
    random = np.random.default_rng(SEED)
    data = load_digits()
    pixels, digits = data.data / 16, data.target
    order = random.permutation(len(digits))
    held_out, known = order[: len(order) // 5], order[len(order) // 5 :]

    layers = train(pixels[known], digits[known], random)

    # As the actor has them: single precision, little-endian, weights by neuron and then biases.
    stored = [each.astype("<f4") for layer in layers for each in layer]
    WEIGHTS.write_bytes(b"".join(each.tobytes() for each in stored))
    kept = [(stored[0], stored[1]), (stored[2], stored[3])]
    for name, part in (("trained on", known), ("held out", held_out)):
        _, probabilities = forward(kept, pixels[part])
        right = int((probabilities.argmax(axis=1) == digits[part]).sum())
        print(f"{name}: {right} of {len(part)} right, {right / len(part):.1%}")


if __name__ == "__main__":
    main()
