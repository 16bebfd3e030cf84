"""Ten minutes with Pharos as a marimo notebook: `marimo edit docs/tutorials/ten_minutes_marimo.py`."""

import marimo

app = marimo.App(width="medium", app_title="Ten minutes with Pharos")


@app.cell
def _():
    import marimo as mo
    import numpy as np

    import pharos

    mo.md(
        "# Ten minutes with Pharos\nWhat will a network ask of a machine? Move the controls, see what binds."
    )
    return mo, np, pharos


@app.cell
def _(mo):
    width = mo.ui.slider(0.25, 1.5, step=0.05, value=0.75, label="width of MobileNetV2")
    side = mo.ui.slider(96, 320, step=32, value=224, label="resolution")
    machine = mo.ui.dropdown(
        ["rpi4-cortex-a72", "a100-sxm-80gb", "t4"], value="rpi4-cortex-a72", label="machine"
    )
    mo.vstack([width, side, machine])
    return machine, side, width


@app.cell
def _(machine, pharos, side, width):
    name = f"mobilenet_v2(width={width.value}, resolution={side.value})"
    estimate = pharos.predict(name, on=machine.value, precision="int8")
    estimate
    return (estimate,)


@app.cell
def _(mo, np, pharos):
    # sizes may be arrays: one call is a whole sweep
    contexts = np.array([512, 1024, 2048, 4096, 8192])
    sweep = pharos.predict(
        "llama-3.1-8b", on="a100-sxm-80gb", phase="decode", precision="bf16", context=contexts
    )
    mo.ui.table(
        [
            {"context": int(n), "latency_s": float(s), "kv_cache_bytes": int(b)}
            for n, s, b in zip(contexts, sweep.latency.value, sweep.memory.kv_cache, strict=True)
        ],
        selection=None,
    )
    return (sweep,)


@app.cell
def _(pharos):
    # what would help: the resource whose doubling shortens a step most
    reasons = pharos.why("gpt2-xl", on="a100-sxm-80gb", phase="decode", precision="fp16")
    reasons.helpful, reasons.reason
    return (reasons,)


@app.cell
def _(pharos):
    verdict = pharos.check("examples/wildlife/contract.yaml")
    verdict
    return (verdict,)


if __name__ == "__main__":
    app.run()
