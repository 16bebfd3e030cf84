"""Section 1.8 on normalisation: batch, layer and RMS norm, their Jacobians and costs, Table 4."""

from pharos.book.answer import told, unknown
from pharos.book.sums import close, draw, layers, leads, run, symbols
from pharos.graph.tensor import Tensor
from pharos.ops.norm import BatchNorm, LayerNorm, RMSNorm


def normed(x, eps: float = 1e-5, weight=None, bias=None):
    """BatchNorm of a batch [m, C] with its own statistics, as training does."""
    import numpy as np

    ones, zeros = np.ones(x.shape[1]), np.zeros(x.shape[1])
    return run(
        BatchNorm(x.shape[1], eps),
        x,
        weight=ones if weight is None else weight,
        bias=zeros if bias is None else bias,
        running_mean=x.mean(0),
        running_var=x.var(0),
    )


def _is_batch_norm() -> bool:
    import numpy as np

    x, w, b = draw(6, 3), draw(3, seed=1), draw(3, seed=2)
    return close(normed(x, 1e-5, w, b), (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * w + b)


def _is_layer_norm() -> bool:
    import numpy as np

    x, w, b = draw(4, 5), draw(5, seed=1), draw(5, seed=2)
    by_hand = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * w + b
    return close(run(LayerNorm(5), x, weight=w, bias=b), by_hand)


def _identity():
    import numpy as np

    x = draw(6, 3)
    plain = normed(x, 1e-5, np.sqrt(x.var(0)), x.mean(0))
    whole = normed(x, 1e-5, np.sqrt(x.var(0) + 1e-5), x.mean(0))
    return told(
        close(plain, x),
        f"off by up to {float(abs(plain - x).max()):.0e}, for the root holds eps as well",
        with_gamma_the_root_of_variance_and_eps=close(whole, x),
    )


def jacobian(x, eps: float):
    """Derivatives of a batch's normalised feature, by central differences: [m, m]."""
    import numpy as np

    step, m = 1e-6, len(x)
    columns = [
        (normed((x + step * e)[:, None], eps) - normed((x - step * e)[:, None], eps))[:, 0] / (2 * step)
        for e in np.eye(m)
    ]
    return np.stack(columns, 1)


def printed_jacobian(x):
    """The chapter's formula, eps left out."""
    import numpy as np

    m, away = len(x), x - x.mean()
    return (np.eye(m) - 1 / m - np.outer(away, away) / (m * x.var())) / x.std()


def _is_jacobian():
    x = draw(6)
    return told(
        close(jacobian(x, 1e-12), printed_jacobian(x), 1e-5),
        "against central differences, as eps goes to zero; with eps the last denominator is m (var + eps)",
    )


def _eigenvalues():
    import numpy as np

    found = []
    for spread in (0.1, 1.0, 10.0):
        x = draw(6)
        found.append(np.linalg.eigvalsh(printed_jacobian(spread * x / x.std())))
    lowest, highest = float(min(f.min() for f in found)), float(max(f.max() for f in found))
    return told(
        [round(lowest, 9) + 0.0, round(highest, 9)],
        "standard deviations of 0.1, 1 and 10: two eigenvalues are zero, for mean and "
        "scale, all others 1 / sigma, which no bound holds; [0.5, 2] means a sigma of 0.5 to 2",
    )


def _depend():
    x = draw(6, 4)
    batch = not close(normed(x)[:3], normed(x[:3]))
    ln, rms = (
        close(run(op, x, **w)[:3], run(op, x[:3], **w))
        for op, w in ((LayerNorm(4), {"weight": [1] * 4, "bias": [0] * 4}), (RMSNorm(4), {"weight": [1] * 4}))
    )
    return told([batch, ln, rms], "outputs of the first three of six samples, with and without the rest")


def _costs():
    m, h = symbols("m H")
    x, one = Tensor((m, h)), Tensor((1, h))
    return told(
        [
            leads(BatchNorm(h).training_work(x, x).vector_flops, "m", "H"),
            leads(LayerNorm(h).work(one, one).vector_flops, "H"),
        ],
        "a batch against one sample; over a batch the two are alike",
    )


def _saving() -> float:
    """Percent of vector operations that RMSNorm saves over LayerNorm."""
    x = Tensor((32, 512))
    return 100 * (1 - RMSNorm(512).work(x, x).vector_flops / LayerNorm(512).work(x, x).vector_flops)


def _rms_saving():
    sizes = [
        layers((32, 512), op).traffic.total
        for op in (LayerNorm(512, bias=False, affine=False), RMSNorm(512, affine=False))
    ]
    return told(
        _saving(),
        f"vector operations; bytes moved are {'the same' if sizes[0] == sizes[1] else 'not'}, so that a"
        " kernel bound by memory gains nothing. Footnote 26 prints 7 to 64%",
    )


def _modes():
    x = Tensor((32, 512))
    found = [op.training_work(x, x) == op.work(x, x) for op in (BatchNorm(512), LayerNorm(512), RMSNorm(512))]
    return told([not found[0], *found[1:]], "operations of a pass that trains and of one that serves")


def _single():
    x = draw(1, 6)
    vanishes = close(normed(x), 0 * x)
    layer = run(LayerNorm(6), x, weight=[1] * 6, bias=[0] * 6)
    return told(
        vanishes and not close(layer, 0 * x),
        "with the statistics of one sample BatchNorm gives zeros; with its running ones, as "
        "it serves, it works at batch 1",
    )


def _not_centred():
    x, w = draw(3, 6), {"weight": [1] * 6}
    moves = not close(run(RMSNorm(6), x + 5, **w), run(RMSNorm(6), x, **w))
    stays = close(run(LayerNorm(6), x + 5, **w, bias=[0] * 6), run(LayerNorm(6), x, **w, bias=[0] * 6))
    return told(moves and stays, "adding a constant changes what RMSNorm gives, not what LayerNorm does")


CLAIMS = {
    "fn25-14x": lambda: unknown("a published result of training: fewer steps to the same accuracy, not time"),
    "fn25-rmsnorm-halved": _rms_saving,
    "fn26-7-64": lambda: unknown(
        "a published measurement, of whole models' running time, not of the norm's",
        vector_operations_saved=_saving(),
    ),
    "eq10-11-batchnorm": lambda: told(
        _is_batch_norm(), "loops against the formula, with the batch's statistics"
    ),
    "bn-identity": _identity,
    "bn-jacobian": _is_jacobian,
    "bn-jacobian-eigenvalues": _eigenvalues,
    "linear-eig-range": lambda: unknown("must be measured while a network trains"),
    "gradnorm-1e4-to-2-4": lambda: unknown("must be measured while a network trains"),
    "bn-lr-10-30": lambda: unknown("a published result of training; the paper has 5x and 30x"),
    "eq12-layernorm": lambda: told(_is_layer_norm(), "loops against the formula"),
    "layernorm-batch-independent": _depend,
    "bn-running-stats": lambda: told(
        str(layers((1, symbols("H")), BatchNorm(symbols("H"))).buffers),
        "buffers, not trained; gamma and beta are as many",
    ),
    "bn-batch-16-8": lambda: unknown("needs training"),
    "bn-cost": _costs,
    "table4-rmsnorm-lower": lambda: told(_saving() > 0, f"{_saving():.0f}% fewer vector operations"),
    "table4-train-infer": _modes,
    "sc-ln-batch1": _single,
    "sc-rmsnorm-blank": _not_centred,
}
