"""Networks of plain torch layers, as their papers and reference code describe them, to be traced in tests."""

import torch
from torch import nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut; the stride is in the middle."""

    def __init__(self, channels, width, stride):
        super().__init__()
        layers = []
        for a, b, kernel, step in (
            (channels, width, 1, 1),
            (width, width, 3, stride),
            (width, 4 * width, 1, 1),
        ):
            layers += [nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        self.body = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != 4 * width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        return F.relu(self.body(x).add_(self.shortcut(x)))


def resnet50(classes=1000):
    """He et al. 2015, arXiv:1512.03385, with the stride in the 3x3."""
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        for i in range(depth):
            layers.append(Bottleneck(channels, 64 * 2**stage, 2 if stage and i == 0 else 1))
            channels = 256 * 2**stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, classes))


class Inverted(nn.Module):
    """1x1 wider, 3x3 depthwise, 1x1 narrower."""

    def __init__(self, channels, out, stride, expand):
        super().__init__()
        wide = channels * expand
        parts = [(channels, wide, 1, 1, 1)] * (expand > 1)
        parts += [(wide, wide, 3, stride, wide), (wide, out, 1, 1, 1)]
        layers = []
        for a, b, kernel, step, groups in parts:
            layers += [nn.Conv2d(a, b, kernel, step, kernel // 2, groups=groups, bias=False),
                       nn.BatchNorm2d(b), nn.ReLU6()]  # fmt: skip
        self.body = nn.Sequential(*layers[:-1])
        self.adds = stride == 1 and channels == out

    def forward(self, x):
        return x + self.body(x) if self.adds else self.body(x)


def mobilenet_v2(classes=1000):
    """Sandler et al. 2018, arXiv:1801.04381, table 2."""
    layers, channels = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()], 32
    for expand, out, depth, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                       (6, 160, 3, 2), (6, 320, 1, 1)):  # fmt: skip
        for i in range(depth):
            layers.append(Inverted(channels, out, stride if i == 0 else 1, expand))
            channels = out
    layers += [nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, classes))


def vgg16(classes=1000):
    """Simonyan and Zisserman 2014, arXiv:1409.1556, configuration D."""
    layers, channels = [], 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU(True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    head = [nn.Linear(512 * 49, 4096), nn.ReLU(True), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.Flatten(), *head, nn.Linear(4096, classes))


def alexnet(classes=1000):
    """Krizhevsky 2014, arXiv:1404.5997, in one tower."""
    layers, channels = [], 3
    for out, kernel, stride, padding, pool in (
        (64, 11, 4, 2, 1), (192, 5, 1, 2, 1), (384, 3, 1, 1, 0), (256, 3, 1, 1, 0), (256, 3, 1, 1, 1),
    ):  # fmt: skip
        layers += [nn.Conv2d(channels, out, kernel, stride, padding), nn.ReLU(True)]
        layers += [nn.MaxPool2d(3, 2)] * pool
        channels = out
    head = [nn.Dropout(), nn.Linear(256 * 36, 4096), nn.ReLU(True), nn.Dropout(), nn.Linear(4096, 4096)]
    pool = [nn.AdaptiveAvgPool2d(6), nn.Flatten()]
    return nn.Sequential(*layers, *pool, *head, nn.ReLU(True), nn.Linear(4096, classes))


class Attending(nn.Module):
    """A pre-norm layer whose attention is nn.MultiheadAttention, or written out."""

    def __init__(self, width, heads, hidden, written=False):
        super().__init__()
        self.heads, self.written = heads, written
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        if written:
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        else:
            self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x):
        y = self.norm1(x)
        if self.written:
            b, n, d = y.shape
            q, k, v = (
                self.qkv(y).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
            )
            scores = (q @ k.transpose(-2, -1)) * (d // self.heads) ** -0.5
            y = self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, d))
        else:
            y = self.attention(y, y, y, need_weights=False)[0]
        x = x + y
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Dosovitskiy et al. 2020, arXiv:2010.11929."""

    def __init__(self, width=768, depth=12, heads=12, patch=16, side=224, classes=1000, written=False):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (side // patch) ** 2 + 1, width))
        self.layers = nn.Sequential(*[Attending(width, heads, 4 * width, written) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.layers(x))[:, 0])


class DLRM(nn.Module):
    """Naumov et al. 2019, arXiv:1906.00091: the interaction is the whole matrix of dot products."""

    def __init__(
        self, tables=26, rows=100_000, dim=64, dense=13, bottom=(512, 256, 64), top=(1024, 1024, 512, 256, 1)
    ):
        super().__init__()
        self.tables = nn.ModuleList([nn.EmbeddingBag(rows, dim, mode="sum") for _ in range(tables)])
        self.bottom = self.stack(dense, bottom)
        self.top = self.stack(dim + (tables + 1) * tables // 2, top)

    @staticmethod
    def stack(width, widths):
        layers = []
        for out in widths:
            layers += [nn.Linear(width, out), nn.ReLU()]
            width = out
        return nn.Sequential(*layers[:-1])

    def forward(self, dense, *bags):
        x = self.bottom(dense)
        all_of = torch.stack([x] + [table(bag) for table, bag in zip(self.tables, bags, strict=True)], 1)
        dots = torch.bmm(all_of, all_of.transpose(1, 2))
        i, j = torch.tril_indices(all_of.shape[1], all_of.shape[1], -1, device=x.device)
        return self.top(torch.cat([x, dots[:, i, j]], 1))


def ds_cnn(classes=12):
    """The keyword spotter of MLPerf Tiny, Banbury et al. 2021, arXiv:2106.07597; all convolutions biased."""
    layers = [nn.Conv2d(1, 64, (10, 4), 2, (5, 1)), nn.BatchNorm2d(64), nn.ReLU()]
    for _ in range(4):
        layers += [nn.Conv2d(64, 64, 3, 1, 1, groups=64), nn.BatchNorm2d(64), nn.ReLU()]
        layers += [nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


class CellLoop(nn.Module):
    """An LSTM step by step."""

    def __init__(self, width, hidden):
        super().__init__()
        self.cell = nn.LSTMCell(width, hidden)

    def forward(self, x):
        h = c = x.new_zeros(x.shape[1], self.cell.hidden_size)
        outs = []
        for step in x:
            h, c = self.cell(step, (h, c))
            outs.append(h)
        return torch.stack(outs)


class Recurrent(nn.Module):
    """One recurrent layer, of which the outputs are taken."""

    def __init__(self, width=100, hidden=128):
        super().__init__()
        self.layer = nn.LSTM(width, hidden)

    def forward(self, x):
        return self.layer(x)[0]
