"""ONNX rules: classical learners of ai.onnx.ml, and optimisers of a training graph."""

from typing import Any

from pharos.convert.onnx_reader import Call, OnnxReader
from pharos.convert.onnx_rules.registry import ML, first, priced, rule
from pharos.graph.graph import Value
from pharos.ops.shape_ops import Concat
from pharos.quantity.sizes import Size, ceil_log2, prod

# Modes of a node of a tree that are leaves.
LEAF = "LEAF"


def _rows(x: Value) -> tuple[Size, Size]:
    """(samples, features): one sample may come as a vector."""
    return (x.shape[0], x.shape[-1]) if x.tensor.rank > 1 else (1, x.tensor.numel)


def _post(node: Call, rows: Size, width: Size) -> tuple[Size, Size]:
    """(vector, transcendental) of the transform behind the scores."""
    kind = node.attributes.get("post_transform", "NONE")
    if kind in ("SOFTMAX", "SOFTMAX_ZERO"):
        return 3 * rows * width, 2 * rows * width
    return {"LOGISTIC": (rows * width, 2 * rows * width), "PROBIT": (4 * rows * width, 2 * rows * width)}.get(
        kind, (0, 0)
    )


def _classes(node: Call) -> int:
    a = node.attributes
    for key in ("classlabels_ints", "classlabels_int64s", "classlabels_strings"):
        if a.get(key):
            return len(a[key])
    return 1


def _label(node: Call) -> str:
    return "uint8" if node.attributes.get("classlabels_strings") else "int64"


@rule(f"{ML}.LinearClassifier", f"{ML}.LinearRegressor")
def _linear(reader: OnnxReader, node: Call) -> Any:
    """A matrix product of samples and coefficients; of a classifier the largest score's label."""
    x, a = first(reader, node), node.attributes
    rows, width = _rows(x)
    scores = len(a["coefficients"]) // width
    vector, roots = _post(node, rows, scores)
    vector = vector + (rows * scores if a.get("intercepts") else 0)
    if node.op_type == "LinearRegressor":
        return priced(reader, node, [((rows, a.get("targets", 1)), "fp32")], x, macs=rows * width * scores,
                      vector=vector, roots=roots, cost="gemm")  # fmt: skip
    outs = [((rows,), _label(node)), ((rows, max(_classes(node), scores)), "fp32")]
    return priced(reader, node, outs[: len(node.output)], x, macs=rows * width * scores,
                  vector=vector + rows * scores, roots=roots, cost="gemm")  # fmt: skip


@rule(f"{ML}.SVMClassifier", f"{ML}.SVMRegressor")
def _machine(reader: OnnxReader, node: Call) -> Any:
    """Each sample's kernel with every support vector, then a product with their coefficients."""
    x, a = first(reader, node), node.attributes
    rows, width = _rows(x)
    vectors = len(a.get("support_vectors") or []) // width
    kernel = a.get("kernel_type", "LINEAR")
    pairs = rows * vectors
    classes = _classes(node)
    # one against one: a sum for every pair of classes
    sums = classes * (classes - 1) // 2 if node.op_type == "SVMClassifier" and vectors else 1
    macs = pairs * width if kernel != "RBF" else 0
    if not vectors:
        macs, sums = rows * len(a.get("coefficients") or []), classes
    # a distance is a difference, a square and a sum a feature
    vector = 3 * pairs * width if kernel == "RBF" else 2 * pairs if kernel in ("POLY", "SIGMOID") else 0
    roots = pairs if kernel in ("RBF", "POLY", "SIGMOID") else 0
    scored = len(a.get("coefficients") or []) * rows if vectors else 0
    more, most = _post(node, rows, classes)
    vector = vector + rows * sums + more
    if node.op_type == "SVMRegressor":
        return priced(reader, node, [((rows, 1), "fp32")], x, macs=macs + scored, vector=vector,
                      roots=roots + most, cost="gemm")  # fmt: skip
    outs = [((rows,), _label(node)), ((rows, classes if a.get("prob_a") else max(classes, sums)), "fp32")]
    return priced(reader, node, outs[: len(node.output)], x, macs=macs + scored, vector=vector + rows * sums,
                  roots=roots + most, cost="gemm")  # fmt: skip


def _depths(reader: OnnxReader, node: Call) -> tuple[int, int]:
    """(comparisons on the longest way through all trees, number of trees)."""
    a = node.attributes
    if node.op_type == "TreeEnsemble":
        left, right = a["nodes_truenodeids"], a["nodes_falsenodeids"]
        ends = a["nodes_trueleafs"], a["nodes_falseleafs"]
        roots, total = a["tree_roots"], 0
        for root in roots:
            total += _longest(root, lambda i: [
                c for c, leaf in ((left[i], ends[0][i]), (right[i], ends[1][i])) if not leaf
            ], len(left))  # fmt: skip
        return total, len(roots)
    trees: dict[int, dict[int, int]] = {}
    for i, (tree, number) in enumerate(zip(a["nodes_treeids"], a["nodes_nodeids"], strict=True)):
        trees.setdefault(tree, {})[number] = i
    modes, left, right = a["nodes_modes"], a["nodes_truenodeids"], a["nodes_falsenodeids"]
    total = 0
    for held in trees.values():

        def children(number: int, held: dict[int, int] = held) -> list[int]:
            i = held[number]
            below = (left[i], right[i])
            return [c for c in below if modes[held[c]] != LEAF]

        first_one = next(iter(held))
        total += 0 if modes[held[first_one]] == LEAF else _longest(first_one, children, len(held))
    return total, len(trees)


def _longest(root: int, children: Any, most: int) -> int:
    """Nodes on the longest way down; a tree with a circle is refused."""
    level, depth = [root], 0
    while level:
        depth += 1
        if depth > most:
            raise ValueError("a tree that leads back into itself")
        seen: dict[int, None] = {}
        for node in level:
            seen.update(dict.fromkeys(children(node)))
        level = list(seen)
    return depth


@rule(f"{ML}.TreeEnsemble", f"{ML}.TreeEnsembleClassifier", f"{ML}.TreeEnsembleRegressor")
def _trees(reader: OnnxReader, node: Call) -> Any:
    """A comparison a level of each tree, counted on its longest way; an addition a tree and score."""
    x, a = first(reader, node), node.attributes
    rows, _ = _rows(x)
    levels, count = _depths(reader, node)
    classifier = node.op_type == "TreeEnsembleClassifier"
    width = _classes(node) if classifier else a.get("n_targets", 1)
    vector, roots = _post(node, rows, width)
    vector = vector + rows * (levels + count * width + (width if classifier else 0))
    if classifier:
        outs = [((rows,), _label(node)), ((rows, width), "fp32")]
        return priced(reader, node, outs[: len(node.output)], x, vector=vector, roots=roots, cost="gather")
    return priced(
        reader, node, [((rows, width), x.tensor.dtype)], x, vector=vector, roots=roots, cost="gather"
    )


@rule(f"{ML}.Scaler", f"{ML}.Imputer", f"{ML}.Binarizer", f"{ML}.CastMap")
def _each(reader: OnnxReader, node: Call) -> Any:
    """A difference and a product, a comparison and a choice, or one comparison a feature."""
    x = first(reader, node)
    each = {"Scaler": 2, "Imputer": 2}.get(node.op_type, 1)
    dtype = "fp32" if node.op_type in ("Scaler", "CastMap") else x.tensor.dtype
    return priced(reader, node, [(x.shape, dtype)], x, vector=each * x.tensor.numel)


@rule(f"{ML}.Normalizer")
def _normalizer(reader: OnnxReader, node: Call) -> Any:
    x = first(reader, node)
    rows, _ = _rows(x)
    each = 1 if node.attributes.get("norm", "MAX") == "MAX" else 2
    roots = rows if node.attributes.get("norm") == "L2" else 0
    return priced(
        reader, node, [(x.shape, "fp32")], x, vector=each * x.tensor.numel, roots=x.tensor.numel + roots
    )


@rule(f"{ML}.LabelEncoder", f"{ML}.CategoryMapper")
def _mapped(reader: OnnxReader, node: Call) -> Any:
    """Each value looked up among the keys: log2 n comparisons in a sorted table."""
    x, a = first(reader, node), node.attributes
    keys: Any = next((v for k, v in a.items() if k.startswith(("keys_", "cats_")) and v), None)
    count = keys.dims[0] if hasattr(keys, "dims") else len(keys or [0])
    dtype = "fp32" if "values_floats" in a else "uint8" if "values_strings" in a else "int64"
    if node.op_type == "CategoryMapper":
        dtype = "int64" if x.tensor.dtype == "uint8" else "uint8"
    if hasattr(a.get("values_tensor"), "data_type"):
        from pharos.convert.onnx_file import DTYPES

        dtype = DTYPES[a["values_tensor"].data_type]
    return priced(
        reader, node, [(x.shape, dtype)], x, vector=x.tensor.numel * max(ceil_log2(count), 1), cost="gather"
    )


@rule(f"{ML}.OneHotEncoder")
def _one_hot(reader: OnnxReader, node: Call) -> Any:
    x, a = first(reader, node), node.attributes
    count = len(a.get("cats_int64s") or a.get("cats_strings") or [])
    shape = (*x.shape, count)
    return priced(reader, node, [(shape, "fp32")], x, vector=prod(shape))


@rule(f"{ML}.ArrayFeatureExtractor")
def _picked(reader: OnnxReader, node: Call) -> Any:
    x, index = first(reader, node), reader.tensor(node.input[1])
    lead = x.shape[:-1] if x.tensor.rank > 1 else (1,)
    return priced(reader, node, [((*lead, index.numel), x.tensor.dtype)], cost="gather")


@rule(f"{ML}.FeatureVectorizer")
def _vector(reader: OnnxReader, node: Call) -> Any:
    return reader.add(node, Concat(1), *map(reader.value, node.input))


@rule(f"{ML}.ZipMap")
def _zipped(reader: OnnxReader, node: Call) -> Any:
    """The same scores with their labels beside them."""
    reader.alias(node.output[0], node.input[0])


@rule(*(f"ai.onnx.preview.training.{k}" for k in ("Adam", "Adagrad", "Momentum")))
def _optimiser(reader: OnnxReader, node: Call) -> Any:
    """Per parameter, with weight decay: Adam 12 operations, a root and a quotient; Adagrad 6, and as many.

    Momentum has 6. Inputs are the rate, the count, then parameters, gradients and states.
    """
    states = {"Adam": 2, "Adagrad": 1, "Momentum": 1}[node.op_type]
    given = [reader.value(i) for i in node.input[2:]]
    count = len(given) // (2 + states)
    if count * (2 + states) != len(given) or len(node.output) != count * (1 + states):
        raise ValueError("has another number of tensors")
    total = sum(v.tensor.numel for v in given[:count])
    kept = [*given[:count], *given[2 * count :]]
    each, roots = {"Adam": (12, 2), "Adagrad": (6, 2), "Momentum": (6, 0)}[node.op_type]
    outs = [(v.shape, v.tensor.dtype) for v in kept]
    return priced(reader, node, outs, *given, vector=each * total, roots=roots * total)
