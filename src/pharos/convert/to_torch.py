"""To PyTorch: a graph becomes a trainable nn.Module whose parameters keep the graph's names."""

from typing import Any

from pharos.convert.read_back import told, traits
from pharos.graph.graph import Graph, Node
from pharos.quantity.errors import InputError


def to_torch(graph: Graph) -> Any:
    """An ``nn.Module`` that computes the graph; its inputs are the graph's, in order.

    Parameters are called as in the graph, so a reference implementation's state_dict of the same
    names loads. Tied weights are one parameter. Weights are initialised as PyTorch initialises each
    layer.

    ``module(*inputs, state=state)`` with a dict keeps what the graph keeps from call to call (KV caches,
    recurrent states) in that dict, by name: a prefill graph fills it, decode graphs built for one more
    token each read it and go on from there.

    `pharos.trace` of it gives the graph back, but for layers that were exchanged or changed since.

    Raises:
        InputError: torch is missing, an operator has no PyTorch form, or, when called, the graph
            continues from a cache and there is none.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError("running a graph needs torch", hint="pip install 'pharos-nn[torch]'") from None
    plain = graph.expanded()
    nodes = [n for n in plain.nodes if isinstance(n, Node)]
    # values that nothing reads after a node
    ended: dict[int, list[str]] = {}
    kept = {v.name for v in plain.outputs}
    for i in reversed(range(len(nodes))):
        gone = [name for name in dict.fromkeys((*nodes[i].inputs, *nodes[i].outputs)) if name not in kept]
        ended[i] = gone
        kept.update(gone)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source_graph = graph
            self.calls: dict[str, Any] = {}
            for node in nodes:
                made = node.op.torch(torch)
                if isinstance(made, torch.nn.Module):
                    if node.home is None:
                        _place(torch, self, node.name, made)
                    else:
                        made = _Lent(torch, self, node, made)
                # kept outside the module tree, so that names are the graph's alone
                self.calls[node.name] = made
            for node in nodes:
                for own, owner in node.tied.items() if node.home is None else ():
                    setattr(self.calls[node.name], own, self.get_parameter(owner))
            self.made = {node.name: traits(self.calls[node.name]) for node in nodes}

        def call_of(self, node: Node) -> Any:
            """What runs as an operator: the layer under its name, which its owner may have exchanged."""
            made = self.calls[node.name]
            return self.get_submodule(node.name) if isinstance(made, torch.nn.Module) else made

        def is_as_made(self, node: Node) -> bool:
            """Whether an operator's layer still computes what the graph says."""
            call = self.call_of(node)
            shapes = {key: tuple(t.shape) for key, t in self.tensors_of(node).items()}
            held = node.weights | node.buffers
            return (
                call is self.calls[node.name]
                and traits(call) == self.made[node.name]
                and shapes == {key: held[key].shape for key in shapes}
            )

        def tensors_of(self, node: Node) -> dict[str, Any]:
            """The tensors that an operator holds, by its own names for them."""
            call = self.call_of(node)
            if isinstance(call, _Lent):
                return call.held()
            held = {} if not isinstance(call, torch.nn.Module) else {**call._parameters, **call._buffers}
            return {key: t for key, t in held.items() if t is not None and key in node.weights | node.buffers}

        def forward(self, *inputs: Any, state: dict[str, Any] | None = None) -> Any:
            if len(inputs) != len(graph.inputs):
                wanted = ", ".join(v.name for v in graph.inputs)
                raise TypeError(f"takes {len(graph.inputs)} inputs ({wanted}), not {len(inputs)}")
            values = dict(zip((v.name for v in graph.inputs), inputs, strict=True))
            for i, node in enumerate(nodes):
                given = [values[name] for name in node.inputs]
                if node.state and (state is not None or getattr(node.op, "cached", 0)):
                    made = _with_state(self.call_of(node), node, given, state)
                else:
                    made = told(self, node, self.call_of(node), given)
                results = made if isinstance(made, (tuple, list)) else (made,)
                values.update(zip(node.outputs, results, strict=True))
                # whatever still holds a tensor keeps its memory
                del given, made, results
                for name in ended[i]:
                    del values[name]
            found = tuple(values[v.name] for v in plain.outputs)
            return found[0] if len(found) == 1 else found

    return Network()


def _with_state(call: Any, node: Node, given: list[Any], state: dict[str, Any] | None) -> Any:
    """Calls an operator that keeps something with what it kept, and takes down what it keeps now."""
    kept = {key: node.parameter(key) for key in node.state}
    past = {key: state[name] for key, name in kept.items() if state is not None and name in state}
    if getattr(node.op, "cached", 0) and len(past) < len(kept):
        raise InputError(
            "continues from a cache that it is not given", where=node.name, hint="pass state= of the prefill"
        )
    made = call(*given, state=past)
    if state is not None:
        state.update({name: past[key] for key, name in kept.items()})
    return made


class _Lent:
    """A module whose tensors live under another module's name, and are looked up there at every call.

    Only so do a training loop, an exporter and a load of weights see them as the network's own.
    """

    def __init__(self, torch: Any, root: Any, node: Node, module: Any) -> None:
        assert node.home is not None
        at = root
        *parents, prefix = node.home.split(".")
        for part in parents:
            if part not in at._modules:
                at.add_module(part, torch.nn.Module())
            at = at._modules[part]
        own = [key for key in (*module._parameters, *module._buffers) if key not in node.tied]
        keys = {key: f"{prefix}{key}" for key in own}
        for key, name in keys.items():
            if key in module._parameters:
                at.register_parameter(name, module._parameters[key])
            else:
                at.register_buffer(name, module._buffers[key])
        self._torch, self._keys, self._module = torch, keys, module
        self._root, self._home, self._tied = root, ".".join(parents), node.tied

    def held(self) -> dict[str, Any]:
        """Its tensors by its own names for them."""
        # another layer may have been put there since: its owner is found by name
        at = self._root.get_submodule(self._home)
        found = {key: getattr(at, name) for key, name in self._keys.items()}
        return found | {key: self._root.get_parameter(owner) for key, owner in self._tied.items()}

    def __call__(self, *inputs: Any, **state: Any) -> Any:
        return self._torch.func.functional_call(self._module, self.held(), inputs, state)


def _place(torch: Any, root: Any, path: str, module: Any) -> None:
    """Hangs a module at a dotted path, making plain modules on the way."""
    at = root
    *parents, last = path.split(".")
    for part in parents:
        if part not in at._modules:
            at.add_module(part, torch.nn.Module())
        at = at._modules[part]
    if last in at._modules:
        # a layer of the graph may sit where another's prefix already is: keep what hangs there
        before = at._modules[last]
        for name, child in before._modules.items():
            module.add_module(name, child)
        for name, parameter in before._parameters.items():
            module.register_parameter(name, parameter)
        for name, buffer in before._buffers.items():
            module.register_buffer(name, buffer)
    at.add_module(last, module)
