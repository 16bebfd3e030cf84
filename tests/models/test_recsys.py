"""Recommenders: sizes of published tables, cross networks against PyTorch written by hand."""

import pytest

from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.quantity.errors import PharosError

# name, elements of all tables, bytes of fp32 rows one sample reads: from the published table sizes
TABLES = [
    ("dlrm-repo-default", 18, 240),
    ("dlrm-naumov2019-synthetic", 512_000_000, 204_800),
    ("dlrm-criteo-kaggle", 540_201_232, 1_664),
    ("dlrm-criteo-terabyte-10m", 3_144_083_008, 6_656),
    ("dlrm-mlperf-v1-terabyte-40m", 24_034_227_072, 13_312),
    ("dlrm-dcnv2-mlperf", 26_135_627_264, 109_568),
    ("dlrm-criteo-terabyte-fl3", 22_776_867_200, 13_312),
    ("nvidia-dlrm-xl-fl0", 112_995_145_600, 13_312),
    ("deeprecsys-dlrm-rmc1", 1_024_000_000, 81_920),
    ("deeprecsys-dlrm-rmc2", 1_024_000_000, 983_040),
    ("deeprecsys-dlrm-rmc3", 640_000_000, 25_600),
    ("deeprecsys-wide-and-deep", 864_000_000, 27 * 32 * 4),
    ("multi_task_wide_and_deep", 976_000_000, 43 * 32 * 4),
    ("deeprecsys-ncf", 21_504_000, 4 * 64 * 4),
    ("din", 675_200_000, (2 * 3 + 2 * 251) * 32 * 4),
    ("dien", 976_000_000, (41 + 2 * 101) * 32 * 4),
    ("neumf", 31_725_504 + 3_456, 2 * (64 + 128) * 4),
]


@pytest.mark.parametrize(("name", "elements", "read"), TABLES)
def test_tables_and_what_a_sample_reads_of_them(name, elements, read):
    lines = [x for x in count(find(name).graph()).lines if x.kind in ("embedding", "embedding_bag")]
    assert sum(x.weight_bytes for x in lines) == 4 * (elements - (3_456 if name == "neumf" else 0))
    smallest = {"dlrm-repo-default": 9 * 2 * 4}
    # a table of fewer rows than lookups is read once
    assert sum(x.traffic.weights for x in lines) == smallest.get(name, read)


def test_dcnv2_is_the_low_rank_cross_network():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    name = "dlrm(rows=[9, 7], dim=3, lookups=[2, 1], dense=4, bottom=[5, 3], top=[6, 1], interaction='dcn', cross_layers=2, cross_rank=2)"
    module = to_torch(find(name).graph(Workload(batch=3))).double()
    torch.manual_seed(0)
    w = {k: torch.randn_like(v) * 0.4 for k, v in module.state_dict().items()}
    module.load_state_dict(w)
    x = torch.randn(3, 4, dtype=torch.float64)
    ids = [torch.randint(0, 7, (3, 2)), torch.randint(0, 7, (3, 1))]

    def linear(x, name):
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    y = torch.relu(linear(torch.relu(linear(x, "bot_l.0")), "bot_l.2"))
    first = y = torch.cat([y, *(w[f"emb_l.{i}.weight"][at].sum(1) for i, at in enumerate(ids))], 1)
    for i in range(2):
        matrix, inner, bias = (w[f"crossnet.{i}.{k}"] for k in ("weight", "v", "bias"))
        y = first * ((y @ inner.T) @ matrix.T + bias) + y
    y = torch.sigmoid(linear(torch.relu(linear(y, "top_l.0")), "top_l.2"))
    torch.testing.assert_close(module(x, *ids), y, rtol=1e-10, atol=1e-10)


def test_wide_and_neural_factorisation_by_hand():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = to_torch(
        find("neumf(users=8, items=6, factors=3, layers=[4, 5])").graph(Workload(batch=2))
    ).double()
    w = {k: torch.randn_like(v) for k, v in module.state_dict().items()}
    module.load_state_dict(w)
    user, item = torch.tensor([1, 7]), torch.tensor([5, 0])
    product = w["mf_user_embed.weight"][user] * w["mf_item_embed.weight"][item]
    y = torch.cat([w["mlp_user_embed.weight"][user], w["mlp_item_embed.weight"][item]], 1)
    y = torch.relu(y @ w["mlp.0.weight"].T + w["mlp.0.bias"])
    y = torch.cat([product, y], 1) @ w["final.weight"].T + w["final.bias"]
    torch.testing.assert_close(module(user, item), torch.sigmoid(y), rtol=1e-10, atol=1e-10)


def test_hstu_layers_are_those_of_its_paper():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    name = "hstu(items=9, categories=5, users=4, dim=6, layers=2, heads=2, qk_dim=3, linear_dim=4)"
    module = to_torch(find(name).graph(Workload(batch=2, context=7))).double()
    torch.manual_seed(0)
    w = {k: torch.randn_like(v) * 0.4 for k, v in module.state_dict().items()}
    module.load_state_dict(w)
    ids = [torch.randint(0, n, s) for n, s in ((9, (2, 7)), (5, (2, 7)), (4, (2, 1)))]

    def linear(x, name):
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    x = sum(w[f"{n}_embedding.weight"][i] for n, i in zip(("item", "category", "user"), ids, strict=True))
    for i in range(2):
        at = f"layers.{i}"
        y = F.layer_norm(x, (6,), w[f"{at}.input_norm.weight"], w[f"{at}.input_norm.bias"])
        u, v, q, k = F.silu(linear(y, f"{at}.uvqk")).split([8, 8, 6, 6], 2)
        q, k, v = (t.unflatten(2, (2, -1)).transpose(1, 2) for t in (q, k, v))
        y = (F.silu(q @ k.mT) / 7).tril() @ v
        y = y.transpose(1, 2).flatten(2)
        y = F.layer_norm(y, (8,), w[f"{at}.output_norm.weight"], w[f"{at}.output_norm.bias"]) * u
        x = x + linear(y, f"{at}.output")
    torch.testing.assert_close(module(*ids), linear(x, "score"), rtol=1e-10, atol=1e-10)
    # 1034.24 GB of 16-bit tables, as published
    held = count(find("hstu").graph(Workload(precision="fp16"))).lines
    assert sum(x.weight_bytes for x in held if x.kind == "embedding") == 1_034_240_131_072


def test_interest_networks_run():
    torch = pytest.importorskip("torch")
    for name in ("din(profile=[9], items=[8, 7], dim=4, history=5, unit=[6], top=[5, 2])",
                 "dien(profile=[9], items=[8, 7], dim=4, history=5, hidden=3, dense=2, top=[5, 2])"):  # fmt: skip
        graph = find(name).graph(Workload(batch=2))
        inputs = [
            torch.randint(0, 7, tuple(v.shape)) if v.tensor.dtype == "int64" else torch.randn(tuple(v.shape))
            for v in graph.inputs
        ]
        torch.testing.assert_close(to_torch(graph)(*inputs).sum(1), torch.ones(2))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("dlrm(interaction='sum')", "dot"),
        ("dlrm(bottom=[])", "no bottom"),
        ("dlrm(lookups=[1, 2])", "2 lookups for 26"),
        ("neumf(layers=[255, 64])", "255"),
        ("multi_task_wide_and_deep(tasks=0)", "task"),
        ("wide_and_deep(rows=[3, 4], dims=[2])", "1 widths for 2"),
    ],
)
def test_mistakes_are_told(name, told):
    with pytest.raises(PharosError, match=told):
        find(name).graph()
