"""Section 1.1.2: arithmetic intensity of the lighthouse networks, Tables 1 and 2, the self-check."""

from math import log10

from pharos.book.answer import told, unknown
from pharos.book.chapter import printed
from pharos.book.claims.principles import lighthouses
from pharos.book.sums import (
    A100,
    A100_40,
    GB,
    H100,
    as_run,
    attends,
    conv,
    counted,
    dense,
    devices,
    estimate,
    intensities,
    memory,
    only,
    per_byte,
    ridge,
)
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv2d

FLOPS_OR_MACS = "MACs are printed as FLOPs; 1 MAC = 2 FLOPs"


def _network(name: str, row: str):
    found = counted(name)
    return told(
        per_byte(found, "weights_only"),
        "FLOPs over the bytes of fp32 weights; the printed value has MACs on top",
        MACs_over_fp32_weights=found.macs / found.weight_bytes,
        the_printed_count_over_the_printed_bytes=printed(f"table2-{row}-flops")
        / printed(f"table2-{row}-memory"),
        with_activations_fp32=as_run(estimate(name, A100, precision="fp32")),
        with_activations_fp16=as_run(estimate(name, A100)),
    )


def decode_intensity(precision: str = "fp32", context: int = 1) -> float:
    """FLOP per byte of weights while GPT-2 XL makes a token."""
    return per_byte(counted("gpt2-xl", "decode", context=context, precision=precision), "weights_only")


def _orders():
    resnet, gpt = counted("resnet50"), decode_intensity()
    return told(
        log10(per_byte(resnet, "weights_only") / gpt),
        f"a ratio of {per_byte(resnet, 'weights_only') / gpt:.0f}, FLOPs over fp32 weights for both",
        with_the_printed_values=log10(resnet.macs / resnet.weight_bytes / gpt),
    )


def _descending():
    found = [per_byte(counted(n), "weights_only") for n in ("resnet50", "mobilenet_v2")] + [
        decode_intensity()
    ]
    return told(
        found == sorted(found, reverse=True), f"{found[0]:.0f}, {found[1]:.0f} and {found[2]:.1f} FLOP/B"
    )


def _printed_flops(name: str):
    return told(counted(name).flops, FLOPS_OR_MACS, MACs=counted(name).macs)


def _kws_size():
    sizes = [counted(f"ds_cnn_{s}").parameters for s in "sml"]
    return told(
        sizes[1],
        f"published DS-CNNs have {sizes[0]:,}, {sizes[1]:,} and {sizes[2]:,}; 200 K is the memory class "
        "of the second, in bytes",
    )


def five_bottlenecks():
    """What binds the five lighthouses: four on an A100, the keyword spotter on a microcontroller."""
    mobile = estimate("mobilenet_v2", A100).binding
    kws = estimate("ds_cnn_m", "stm32h743_cortex_m7", precision="int8").binding
    return told(
        [*lighthouses(), mobile, kws],
        "ResNet-50 at batch 32, GPT-2 XL decoding, DLRM and MobileNetV2 at batch 1 on an A100 in fp16, DS-CNN"
        " on a Cortex-M7 in int8: launches are what the chapter calls latency; power is a limit of the"
        " product, not a term of the time",
    )


def _layer_range():
    one = intensities(counted("resnet50", precision="fp16"))
    threes = intensities(counted("resnet50", precision="fp16"), 3)
    many = intensities(counted("resnet50", batch=32, precision="fp16"))
    return told(
        [min(one.values()), max(one.values())],
        f"each convolution at batch 1 in fp16; the 3x3 ones {min(threes.values()):.0f} to "
        f"{max(threes.values()):.0f}, at batch 32 all {min(many.values()):.0f} to {max(many.values()):.0f}",
    )


def _is_deep_higher(batch: int) -> bool:
    deep, early = _deep_and_early(batch)
    return deep > early


def _deep_and_early(batch: int) -> tuple[float, float]:
    found = intensities(counted("resnet50", batch=batch, precision="fp16"), 3)
    last = [v for n, v in found.items() if n.startswith("layer4")]
    first = [v for n, v in found.items() if n.startswith("layer1")]
    return last[-1], first[-1]


def _deep_layers():
    deep, early = _deep_and_early(1)
    return told(
        _is_deep_higher(1),
        f"at batch 1 the order is the reverse: {deep:.0f} in the last stage, where weights outweigh, against "
        f"{early:.0f} in the first",
        at_batch_32=_is_deep_higher(32),
    )


def _mobile_range():
    net = as_run(estimate("mobilenet_v2", A100, precision="fp32"))
    deep = intensities(counted("mobilenet_v2"), cost_class="depthwise")
    return told(
        [min(deep.values()), net],
        "depthwise layers to the whole network, fp32 with activations; Table 1 of the same section prints"
        " 21.4",
    )


def _depthwise_is_lowest():
    found = counted("mobilenet_v2")
    lowest = min(intensities(found).items(), key=lambda item: item[1])
    deep = intensities(found, cost_class="depthwise")
    return told(lowest[0] in deep, f"{lowest[0]}: {lowest[1]:.2f} FLOP/B in fp32")


def _positions():
    area: dict[int, int] = {}
    for line in counted("resnet50").lines:
        op, made = line.node.op, line.node.outs[0].shape
        if isinstance(op, Conv2d):
            kernel = op.axes()[0][0]
            area[kernel] = max(area.get(kernel, 0), made[2] * made[3])
    return told(
        area[3],
        f"the largest map under a 3x3 kernel; the 7x7 stem has {area[7]:,} positions, and only a layer "
        "of stride 1 on the raw image 50,176",
        on_the_raw_image=conv(3, 1).macs / conv(3, 1).parameters,
    )


def _irreversible():
    shape = (1, 12, 4096, 64)
    plain = attends(Attention(algorithm="materialised"), shape, shape, shape)
    tiled = attends(Attention(), shape, shape, shape)
    held = [only(c).op.workspace(*only(c).io) for c in (plain, tiled)]
    return told(
        plain.macs == tiled.macs and held[0] == held[1],
        f"partly: tiled attention executes the same {plain.macs / 1e9:.1f} G MACs, but {held[1]} bytes of"
        f" scores instead of {held[0] / 1e6:.0f} MB",
        for_operations=plain.macs == tiled.macs,
    )


CLAIMS = {
    "ai-definition": lambda: told(
        per_byte(counted("resnet50")) == counted("resnet50").flops / counted("resnet50").traffic.total,
        "this is how intensity is computed; Table 1 divides by weights alone and, for the CNNs, counts MACs",
    ),
    "table1-resnet50-ai": lambda: _network("resnet50", "resnet50"),
    "table1-mobilenetv2-ai": lambda: _network("mobilenet_v2", "mobilenetv2"),
    "table1-gpt2-ai": lambda: told(
        decode_intensity(),
        "FLOPs over fp32 weights; the CNN rows of the table have MACs on top",
        fp16=decode_intensity("fp16"),
    ),
    "table1-three-orders": _orders,
    "table1-affinity": _descending,
    "table2-resnet50-params": lambda: counted("resnet50").parameters,
    "table2-resnet50-flops": lambda: _printed_flops("resnet50"),
    "table2-resnet50-memory": lambda: counted("resnet50").parameters * 4,
    "table2-gpt2xl-params": lambda: counted("gpt2-xl").parameters,
    "table2-gpt2xl-flops": lambda: told(
        counted("gpt2-xl", "decode", context=1).flops,
        "2 per weight",
        at_1024_tokens=counted("gpt2-xl", "decode", context=1024).flops,
    ),
    "table2-gpt2xl-memory": lambda: told(
        counted("gpt2-xl").weight_bytes, "fp32; footnote 2 has 3 GB, fp16, for the same model"
    ),
    "table2-dlrm-params": lambda: told(
        counted("dlrm-mlperf").parameters,
        "MLPerf's DLRM; its successor DLRM-DCNv2 has "
        f"{counted('dlrm-dcnv2').parameters / 1e9:.1f} G, and no published size is 25 G",
    ),
    "table2-dlrm-flops": lambda: told(
        1000 * counted("dlrm-mlperf").flops < counted("resnet50").flops,
        f"{counted('dlrm-mlperf').flops / 1e6:.1f} MFLOP a sample, over 1,000 times less than ResNet-50",
    ),
    "table2-dlrm-memory": lambda: told(counted("dlrm-mlperf").weight_bytes, "MLPerf's DLRM in fp32"),
    "table2-mobilenetv2-params": lambda: counted("mobilenet_v2").parameters,
    "table2-mobilenetv2-flops": lambda: _printed_flops("mobilenet_v2"),
    "table2-mobilenetv2-memory": lambda: counted("mobilenet_v2").weight_bytes,
    "table2-kws-params": _kws_size,
    "table2-kws-flops": lambda: told(
        counted("ds_cnn_m").flops, "real FLOPs, 2 a MAC, in a column where the CNN rows have MACs"
    ),
    "table2-kws-memory": lambda params: told(
        counted("ds_cnn_m").weight_bytes,
        "DS-CNN M in fp32; in int8, as it is deployed, a quarter",
        of_the_printed_200_K_parameters=4 * params,
    ),
    "table2-bottlenecks": five_bottlenecks,
    "spectrum-resnet-range": _layer_range,
    "spectrum-deep-layers-200": _deep_layers,
    "spectrum-gpt2-1": lambda: told(
        decode_intensity("fp16"),
        "fp16; Table 1 prints 0.50, fp32",
        fp32=decode_intensity(),
        int8=decode_intensity("int8"),
    ),
    "spectrum-mobilenet-1-10": _mobile_range,
    "depthwise-ai": _depthwise_is_lowest,
    "sc-mlp-150m": lambda: told(
        dense(3 * 224 * 224, 1000).parameters, "RGB and 1,000 hidden units, a width that is not stated"
    ),
    "sc-cnn-10k": lambda: told(
        conv(3, 64).parameters, f"64 filters of 3x3; those of a 7x7 stem have {conv(3, 64, 7).parameters:,}"
    ),
    "sc-dense-0p5": lambda: told(per_byte(dense(2048, 2048), "weights_only"), "fp32, weights alone"),
    "sc-resnet-50000-positions": _positions,
    "sc-ridge-100": lambda: told(
        ridge(A100),
        f"A100 80 GB, fp16 tensor cores; its fp32 vector units need {ridge(A100, 'fp32'):.1f}",
        A100_40_GB=ridge(A100_40),
        H100=ridge(H100),
        A100_tf32=ridge(A100, "tf32"),
    ),
    "sc-hundreds-below-ridge": lambda: told(
        ridge(A100) / per_byte(dense(2048, 2048), "weights_only"),
        "A100 80 GB in fp16; against its fp32 vector units, the layer's own type, "
        f"{ridge(A100, 'fp32') / 0.5:.0f}",
        of_the_100_that_the_chapter_asks_for=printed("sc-ridge-100")
        / per_byte(dense(2048, 2048), "weights_only"),
    ),
    "sc-1tb-dlrm": lambda tables_gb: told(
        devices(tables_gb * GB, memory(A100)) > 1,
        f"1 TB needs {devices(tables_gb * GB, memory(A100))} devices of 80 GB before anything runs",
    ),
    "sc-stronger-bias-false": lambda: unknown(
        "which bias suits which data is an experiment: accuracy with and without it"
    ),
    "sc-contract-irreversible": _irreversible,
}
