"""Generative recommenders: a user's history as a sequence, read by attention without a softmax."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import norm, residual, split_heads
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.elementwise import Add, Mul
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear
from pharos.ops.pointwise_attention import PointwiseAttention
from pharos.ops.shape_ops import Reshape, Split, Transpose
from pharos.quantity.sizes import Size


def hstu_layer(g: Builder, x: Value, heads: Size, qk_dim: Size, linear_dim: Size) -> Value:
    """One projection to u, v, q and k through SiLU; attention; its norm gated by u; a projection back.

    Source: Zhai et al. 2024, arXiv:2402.17152, equations 1 to 3, without its relative position bias.
    """
    batch, tokens, width = x.shape
    wide, narrow = heads * linear_dim, heads * qk_dim

    def inside(g: Builder, x: Value) -> Value:
        x = g("input_norm", norm("layer", width), x)
        x = g("act", Activation("silu"), g("uvqk", Linear(width, 2 * wide + 2 * narrow), x))
        u, v, q, k = g("split", Split((wide, wide, narrow, narrow), 2), x)
        q, k = split_heads(g, q, heads, qk_dim, "q"), split_heads(g, k, heads, qk_dim, "k")
        y = g("attention", PointwiseAttention(), q, k, split_heads(g, v, heads, linear_dim, "v"))
        y = g("merge_swap", Transpose((0, 2, 1, 3), view=True), y)
        y = g("merge_heads", Reshape((batch, tokens, wide)), y)
        y = g("gated", Mul(), g("output_norm", norm("layer", wide), y), u)
        return g("output", Linear(wide, width), y)

    return residual(g, x, inside)


@model("dlrm", source="sizes: mlcommons/inference recommendation/dlrm_v3; Zhai et al. 2024, arXiv:2402.17152",
       aliases=("dlrm-v3", "dlrm-v3-hstu-mlperf"))  # fmt: skip
def hstu(
    work: Workload, *, items: int = 1_000_000_000, categories: int = 128, users: int = 10_000_000,
    dim: int = 512, layers: int = 5, heads: int = 4, qk_dim: int = 128, linear_dim: int = 128,
) -> Graph:  # fmt: skip
    """Generative recommender: past items and candidates in one sequence, a score for each.

    The workload's context is its length: history and candidates together. Table and layer sizes are
    published; that a token is the sum of its item, category and user rows, and that a score is one
    linear output, is this catalogue's reading.
    """
    tokens = 2048 if work.context is None else work.context
    g = Builder("hstu", work.precision)
    ids = {name: g.input(name, (work.batch, tokens), "int64") for name in ("items", "categories")}
    user = g.input("users", (work.batch, 1), "int64")
    x = g("item_embedding", Embedding(items, dim), ids["items"])
    x = g("with_category", Add(), x, g("category_embedding", Embedding(categories, dim), ids["categories"]))
    x = g("with_user", Add(), x, g("user_embedding", Embedding(users, dim), user))
    x = g.repeat("layers", layers, lambda g, x: hstu_layer(g, x, heads, qk_dim, linear_dim), x)
    return g.finish(g("score", Linear(dim, 1), x), context=tokens, tokens=tokens)
