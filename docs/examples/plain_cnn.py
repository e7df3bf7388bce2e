"""An operator of one's own: a plain convolutional network with dilated layers, in 2D."""

from torch import nn


class PlainCNN(nn.Module):
    """Convolutions of 3x3 points, each layer reaching twice as far as the one before."""

    def __init__(self, in_channels: int, out_channels: int, width: int = 32, layers: int = 5) -> None:
        super().__init__()
        steps = []
        for layer in range(layers):
            reach = 2**layer
            steps += [
                nn.Conv2d(in_channels if layer == 0 else width, width, 3, padding=reach, dilation=reach),
                nn.GELU(),
            ]
        self.network = nn.Sequential(*steps, nn.Conv2d(width, out_channels, 1))

    def forward(self, inputs):
        return self.network(inputs)
