"""Element types: their width in bits and the names people give them."""

from dataclasses import dataclass, replace

from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, ceil_div

BITS = {
    "fp64": 64, "fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "fp4": 4,
    "int64": 64, "int32": 32, "int16": 16, "int8": 8, "uint8": 8, "int4": 4, "int2": 2, "bool": 8,
}  # fmt: skip

ALIASES = {
    "float64": "fp64", "double": "fp64", "float32": "fp32", "float": "fp32", "f32": "fp32",
    "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "f16": "fp16",
    "float8": "fp8", "float8_e4m3fn": "fp8", "float8_e5m2": "fp8", "e4m3": "fp8", "e5m2": "fp8",
    "float4": "fp4", "nvfp4": "fp4", "mxfp4": "fp4", "w8": "int8", "w4": "int4", "q8": "int8",
    "q4": "int4", "long": "int64", "int": "int32", "boolean": "bool",
}  # fmt: skip


def dtype(name: str) -> str:
    """The canonical name of an element type.

    Raises:
        UnknownName: with the nearest known type.
    """
    if name in BITS:
        return name
    folded = str(name).lower().removeprefix("torch.").strip()
    folded = ALIASES.get(folded, folded)
    if folded not in BITS:
        raise unknown("dtype", str(name), [*BITS, *ALIASES])
    return folded


def nbytes(count: Size, dtype_name: str) -> Size:
    """Bytes of `count` elements; widths under a byte are packed and rounded up."""
    bits = BITS[dtype_name]
    return count * (bits >> 3) if bits >= 8 else ceil_div(count * bits, 8)


# What a single word means for a whole workload: weights, activations, accumulators, KV cache.
# Integer weights below 8 bits keep 16-bit activations, as weight-only quantisation does.
_WORKLOADS = {
    "fp64": ("fp64", "fp64", "fp64", "fp64"),
    "fp32": ("fp32", "fp32", "fp32", "fp32"),
    "tf32": ("tf32", "fp32", "fp32", "fp32"),
    "bf16": ("bf16", "bf16", "fp32", "bf16"),
    "fp16": ("fp16", "fp16", "fp32", "fp16"),
    "fp8": ("fp8", "fp8", "fp32", "fp8"),
    "fp4": ("fp4", "fp4", "fp32", "fp8"),
    "int8": ("int8", "int8", "int32", "int8"),
    "int4": ("int4", "fp16", "fp32", "fp16"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Element types of a workload, each set separately."""

    weights: str = "fp32"
    activations: str = "fp32"
    accumulators: str = "fp32"
    kv_cache: str = "fp32"

    @classmethod
    def of(cls, name: "str | Precision") -> "Precision":
        """From one word: "fp16", "int8" (weights and activations), "int4" (weights only).

        Parts may be named: "weights=int8,activations=bf16,kv_cache=fp8".

        Raises:
            UnknownName: an unknown dtype or part.
        """
        if isinstance(name, Precision):
            return name
        if "=" not in name:
            word = dtype(name)
            if word not in _WORKLOADS:
                raise unknown("precision", name, _WORKLOADS)
            weights, activations, accumulators, kv_cache = _WORKLOADS[word]
            return cls(weights=weights, activations=activations, accumulators=accumulators,
                       kv_cache=kv_cache)  # fmt: skip
        parts = [part.partition("=") for part in name.replace(";", ",").split(",") if part.strip()]
        given = {key.strip(): dtype(value.strip()) for key, _, value in parts}
        for key in given:
            if key not in cls.__slots__:
                raise unknown("part of a precision", key, cls.__slots__)
        base = cls.of(given.get("activations") or given.get("weights") or "fp32")
        return replace(base, **given)

    def __str__(self) -> str:
        for word, parts in _WORKLOADS.items():
            if parts == (self.weights, self.activations, self.accumulators, self.kv_cache):
                return word
        return (f"weights={self.weights},activations={self.activations},"
                f"accumulators={self.accumulators},kv_cache={self.kv_cache}")  # fmt: skip
