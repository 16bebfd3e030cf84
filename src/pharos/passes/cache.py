"""Cache: a graph's KV cache handed out in pages, or with old tokens evicted from it."""

from dataclasses import replace

from pharos.graph.graph import Graph, Node
from pharos.graph.op import Op
from pharos.ops.attention import Attention
from pharos.ops.cache import Cache
from pharos.quantity.errors import SizeError
from pharos.quantity.sizes import Size, is_int


def paged(graph: Graph, page: int = 16) -> Graph:
    """The same graph with every KV cache handed out in pages of `page` tokens, the last one partly empty.

    Source: Kwon et al. 2023, arXiv:2309.06180; 16 tokens is the default there.

    Raises:
        SizeError: a page below one token.
    """
    if page < 1:
        raise SizeError(f"a page holds at least one token, not {page}")

    def change(node: Node) -> Op | None:
        op = node.op
        return replace(op, page=page) if isinstance(op, (Attention, Cache)) and node.state else None

    return graph.with_ops(change)


def evicting(graph: Graph, *, window: Size, anchors: Size = 4) -> Graph:
    """The same graph with caches that keep the first `anchors` tokens and the last `window`, no others.

    Attention that already sees only a window or a chunk stays as it is. What the model answers changes;
    what it holds no longer grows. Source: Xiao et al. 2023, arXiv:2309.17453, who keep 4 anchors.

    Raises:
        SizeError: a window below one token.
    """
    if is_int(window) and window < 1:
        raise SizeError(f"a window holds at least one token, not {window}")

    def change(node: Node) -> Op | None:
        op = node.op
        if not isinstance(op, Attention) or not node.state or op.pattern != "full":
            return None
        return replace(op, causal=True, pattern="window", span=window, anchors=anchors)

    return graph.with_ops(change)
