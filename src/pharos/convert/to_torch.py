"""To PyTorch: a graph becomes a trainable nn.Module whose parameters keep the graph's names."""

from typing import Any

from pharos.graph.graph import Graph, Node
from pharos.quantity.errors import InputError


def to_torch(graph: Graph) -> Any:
    """An ``nn.Module`` that computes the graph; its inputs are the graph's, in order.

    Parameters are called as in the graph, so a reference implementation's state_dict of the same
    names loads. Tied weights are one parameter. Weights are initialised as PyTorch initialises each
    layer.

    Raises:
        InputError: torch is missing, an operator has no PyTorch form, or the graph continues from a
            cache (build it under "forward" or "prefill").
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError("running a graph needs torch", hint="pip install 'pharos-nn[torch]'") from None
    plain = graph.expanded()
    nodes = [n for n in plain.nodes if isinstance(n, Node)]
    for node in nodes:
        if getattr(node.op, "cached", 0):
            raise InputError(
                "continues from a cache that a module does not hold", where=f"{graph.name}: {node.name}"
            )

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls: dict[str, Any] = {}
            for node in nodes:
                made = node.op.torch(torch)
                if isinstance(made, torch.nn.Module):
                    if node.home is None:
                        _place(torch, self, node.name, made)
                    else:
                        _lend(torch, self, node.home, made)
                # kept outside the module tree, so that names are the graph's alone
                self.calls[node.name] = made
            for node in nodes:
                for own, owner in node.tied.items():
                    setattr(self.calls[node.name], own, self.get_parameter(owner))

        def forward(self, *inputs: Any) -> Any:
            if len(inputs) != len(graph.inputs):
                wanted = ", ".join(v.name for v in graph.inputs)
                raise TypeError(f"takes {len(graph.inputs)} inputs ({wanted}), not {len(inputs)}")
            values = dict(zip((v.name for v in graph.inputs), inputs, strict=True))
            for node in nodes:
                made = self.calls[node.name](*[values[i] for i in node.inputs])
                results = made if isinstance(made, (tuple, list)) else (made,)
                values.update(zip(node.outputs, results, strict=True))
            found = tuple(values[v.name] for v in plain.outputs)
            return found[0] if len(found) == 1 else found

    return Network()


def _lend(torch: Any, root: Any, home: str, module: Any) -> None:
    """Registers a module's own tensors under another module's name; the module keeps using them."""
    at = root
    for part in home.split(".")[:-1]:
        if part not in at._modules:
            at.add_module(part, torch.nn.Module())
        at = at._modules[part]
    for key, parameter in module._parameters.items():
        at.register_parameter(key, parameter)
    for key, buffer in module._buffers.items():
        at.register_buffer(key, buffer)


def _place(torch: Any, root: Any, path: str, module: Any) -> None:
    """Hangs a module at a dotted path, making plain modules on the way."""
    at = root
    *parents, last = path.split(".")
    for part in parents:
        if part not in at._modules:
            at.add_module(part, torch.nn.Module())
        at = at._modules[part]
    if last in at._modules:
        # a layer of the graph may sit where another's prefix already is: keep what hangs below it
        for name, child in at._modules[last]._modules.items():
            module.add_module(name, child)
    at.add_module(last, module)
