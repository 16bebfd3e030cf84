"""Variants: the same model with other sizes: a device's share of it, fewer KV heads; experts as routed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pharos.graph.graph import Graph, Node
from pharos.graph.op import Op, Traffic
from pharos.graph.tensor import Tensor
from pharos.models.registry import Model
from pharos.models.transformer import Decoder, decoder
from pharos.ops.experts import Experts
from pharos.quantity.errors import InputError
from pharos.quantity.sizes import ceil_div, is_int

# Fields of a decoder that tensor parallelism divides among devices.
DIVIDED = ("heads", "kv_heads", "ffn_size", "expert_size", "shared_size", "vocabulary")


class RoutedExperts(Experts):
    """Experts whose weights are read as often as a router that likes all of them equally picks them.

    Of E experts, n tokens that pick k each touch E (1 - (1 - k / E)^n), expected; a trained router touches
    fewer. `Experts` itself counts the most that can be touched.
    """

    __slots__ = ()

    def traffic(self, node: Any) -> Traffic:
        """Bytes of one run, weights as expected."""
        tokens = node.ins[2].numel / self.top_k
        touched = self.num_experts * (1 - (1 - self.top_k / self.num_experts) ** tokens)
        one = sum(Tensor(tensor.shape[1:], tensor.dtype).nbytes for tensor in node.weights.values())
        return Traffic(
            weights=touched * one, inputs=sum(t.nbytes for t in node.ins), outputs=node.outs[0].nbytes
        )


def routed(graph: Graph) -> Graph:
    """The graph with its experts' weights read as an even router picks them."""

    def change(node: Node) -> Op | None:
        op = node.op
        if not isinstance(op, Experts):
            return None
        return RoutedExperts(**{name: getattr(op, name) for name in Experts.__dataclass_fields__})

    return graph.with_ops(change)


def with_sizes(model: Model, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Model | None:
    """The model with changed fields of its `Decoder`; None where it is not one.

    Args:
        change: from the fields a layer has to those that become others; called for the whole, then for each
            kind of layer that differs.
    """
    sizes = model.sizes
    if not isinstance(sizes, Decoder):
        return None
    whole = {name: getattr(sizes, name) for name in Decoder.__dataclass_fields__}

    def layer(own: dict[str, Any]) -> dict[str, Any]:
        made = change({**whole, **own})
        return {k: made.get(k, v) for k, v in own.items()}

    made = replace(
        sizes, **change(whole), first=tuple(map(layer, sizes.first)), round=tuple(map(layer, sizes.round))
    )
    return replace(model, build=lambda work: decoder(model.name, work, made), entry=None, sizes=made)


def joined(model: Model) -> Model:
    """The model with projections of one input as one product: queries, keys and values; gate and up.

    Serving engines store them so: vLLM's QKVParallelLinear and MergedColumnParallelLinear, TensorRT-LLM and
    SGLang alike. What is stored, multiplied and moved stays the same; fewer kernels are launched.
    """
    sizes = model.sizes
    if not isinstance(sizes, Decoder) or sizes.names.by_group:
        return model
    # the style whose names are those of joined projections
    made = replace(sizes, style="phi3")
    return replace(model, build=lambda work: decoder(model.name, work, made), sizes=made)


def share_of(model: Model, devices: int) -> Model | None:
    """What each of `devices` holds and runs under tensor parallelism: heads, inner features and vocabulary
    divided, the stream between them whole. None where the model is no `Decoder`.

    A KV head that fewer devices than heads would share is on each of them, as is a latent cache. Source:
    Shoeybi et al. 2019, arXiv:1909.08053, section 3.

    Raises:
        InputError: heads that cannot be divided.
    """
    sizes = model.sizes
    if devices == 1:
        return model
    if not isinstance(sizes, Decoder):
        return None
    if is_int(sizes.heads) and sizes.heads % devices:
        fair = [n for n in range(1, sizes.heads + 1) if sizes.heads % n == 0]
        raise InputError(
            f"{sizes.heads} heads cannot be divided among {devices} devices",
            where=model.name,
            hint=f"use {', '.join(map(str, fair))}",
        )

    def change(layer: dict[str, Any]) -> dict[str, Any]:
        return {name: ceil_div(layer[name], devices) for name in DIVIDED if layer[name]}

    return with_sizes(model, change)


def grouped(model: Model, kv_heads: int) -> Model | None:
    """The model with fewer KV heads, as it would have to be trained; None where that is no change."""
    sizes = model.sizes
    if not isinstance(sizes, Decoder) or sizes.latent or sizes.kv_heads <= kv_heads:
        return None
    if sizes.heads % kv_heads:
        return None
    return with_sizes(model, lambda layer: {"kv_heads": min(kv_heads, layer["kv_heads"])})
