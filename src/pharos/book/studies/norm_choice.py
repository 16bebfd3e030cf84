"""Choice of normalisation: which norm a batch and a family allow, and what each asks for."""

from math import gcd

from pharos.book.study import study
from pharos.book.sums import layers, only
from pharos.graph.op import Op
from pharos.ops.norm import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from pharos.quantity.errors import unknown
from pharos.quantity.evidence import counted, spec
from pharos.report.studies import Told

# Samples a device from which statistics of a batch hold, and below which they do not.
ENOUGH, FEW = 16, 8
SOURCE = "Wu and He 2018, arXiv:1803.08494, figure 1: error of batch norm rises below 16 samples a device"
USES = ("vision", "transformer", "rnn", "decode")
MODES = ("train", "eval")
GROUPS = 32


@study("norm-choice", "Which normalisation fits a batch, and what does each cost?", section="1.8")
def norm_choice(
    *,
    use: str = "vision",
    batch: int = 32,
    varies: bool = False,
    channels: int = 256,
    positions: int = 196,
    training: str = "train",
    serving: str = "eval",
    precision: str = "fp32",
) -> Told:
    """Norms over a map [batch, channels, positions], or over as many tokens.

    Args:
        use: vision, transformer, rnn or decode. batch: samples a device. varies: its size changes.
        training, serving: the mode that batch norm is in, train or eval.
    """
    for name, word, allowed in (
        ("use", use, USES),
        *((k, m, MODES) for k, m in (("training", training), ("serving", serving))),
    ):
        if word not in allowed:
            raise unknown(name, word, allowed)
    chosen, why = _choose(use, batch, varies)
    samples = batch * positions
    flags = _flags(samples, training, serving)
    rows = []
    for name, shape, op in _norms(batch, channels, positions):
        made = layers(shape, op, precision=precision)
        node = only(made)
        rows.append(
            (
                name,
                name in chosen,
                int(made.parameters),
                int(made.buffers),
                int(made.work.vector_flops),
                int(op.training_work(*node.io).vector_flops),
                int(made.traffic.total),
                name != "batch norm",
            )
        )
    by = {r[0]: r for r in rows}
    saved = 1 - by["RMS norm"][4] / by["layer norm"][4]
    return Told(
        answer=f"{' or '.join(chosen)}: {why}" + (f"; beware: {flags[0]}" if flags else ""),
        numbers={
            "chosen": list(chosen),
            "values_per_statistic": samples,
            "output_is_beta": samples == 1,
            "mode_mismatch": (training, serving) != ("train", "eval"),
            "rms_saves_share": saved,
            "batch_norm_train_flops": by["batch norm"][5],
            "batch_norm_eval_flops": by["batch norm"][4],
        },
        reasons=(
            *flags,
            "batch norm in eval mode is a scale and a shift, which a convolution before it can take in",
            f"RMS norm does {saved:.0%} fewer operations than layer norm and moves as many activations",
        ),
        columns=("norm", "fits", "parameters", "buffers", "flops", "train_flops", "bytes", "alone"),
        rows=tuple((r[0].removesuffix(" norm"), *r[1:]) for r in rows),
        evidence=(counted("operations and bytes of every norm"), spec(SOURCE)),
        note="flops: vector operations at inference; alone: a sample's result does not depend on the others",
    )


def _choose(use: str, batch: int, varies: bool) -> tuple[tuple[str, ...], str]:
    if use != "vision":
        why = {
            "transformer": "tokens are normalised alone",
            "rnn": "every step would need statistics of its own",
            "decode": "one token at a time has no batch",
        }
        return ("layer norm", "RMS norm"), why[use]
    if varies or batch < FEW:
        return ("group norm", "layer norm"), f"a batch of {batch if not varies else 'any size'} tells little"
    if batch >= ENOUGH:
        return ("batch norm",), f"a batch of {batch} gives steady statistics, and it folds away at inference"
    return ("group norm", "batch norm"), f"between {FEW} and {ENOUGH} samples batch norm begins to fail"


def _flags(samples: int, training: str, serving: str) -> tuple[str, ...]:
    found = []
    if samples == 1:
        found.append("batch norm of one value in training mode gives beta, whatever the input")
    if training == "eval":
        found.append("trained in eval mode: running statistics never learn of the data")
    if serving == "train":
        found.append("served in training mode: an answer depends on what else is in the batch")
    return tuple(found)


def _norms(batch: int, channels: int, positions: int) -> list[tuple[str, tuple[int, ...], Op]]:
    grid, tokens = (batch, channels, positions), (batch, positions, channels)
    return [
        ("batch norm", grid, BatchNorm(channels)),
        ("group norm", grid, GroupNorm(gcd(GROUPS, channels), channels)),
        ("layer norm", tokens, LayerNorm(channels)),
        ("RMS norm", tokens, RMSNorm(channels)),
    ]
