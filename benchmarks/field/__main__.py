"""Field trials: `python benchmarks/field [--data FOLDER] [--facts FOLDER] [--profiles]` writes docs/accuracy.md."""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Runs every source that the folder holds; 0 when a page was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("PHAROS_FIELD", ROOT / "../shared/field"))
    )
    parser.add_argument(
        "--facts", type=Path, help="folder with published results; ../facts of the data by default"
    )
    parser.add_argument(
        "--profiles", action="store_true", help="also write the fitted profiles of src/pharos/facts/profiles"
    )
    parser.add_argument(
        "--keep", type=Path, help="a file that keeps the trials of kernels, and is read where it exists"
    )
    asked = parser.parse_args()
    if not asked.data.is_dir():
        print(
            f"no field data at {asked.data}: give their folder by --data or PHAROS_FIELD; docs/accuracy.md is left as it is"
        )
        return 0
    import collectives
    import page
    import serving
    import training
    from groups import grouped
    from kernels import cases
    from networks import neusight, requests
    from power import power_section, powers, write_power
    from read import BUDGET
    from trial import COUNTED, keep, kept, trial
    from whole import boards, micro, totals, vision

    facts = asked.facts or asked.data.parent / "facts"
    start = time.perf_counter()
    trials = kept(asked.keep) if asked.keep else []
    for case in cases(asked.data) if not trials else ():
        trials.append(trial(case))
        print(
            f"{time.perf_counter() - start:6.0f} s  {case.label}: {page.percent(trials[-1].calibrated.mean)}",
            flush=True,
        )
    if asked.keep:
        keep(asked.keep, trials)
    trials, groups = grouped(trials)
    whole = {
        "neusight": list(neusight(asked.data, trials, groups)),
        "requests": list(requests(asked.data, trials, groups)),
    }
    seen = vision(asked.data)
    by_device = {name: list(totals("timm", found)) for name, found in seen.items()}
    whole["vision"] = [t for rows in by_device.values() for t in rows]
    by_core = boards(asked.data)
    by_board = {
        f"{core}: {what}": list(totals("ncnn", found[what]))
        for core, found in by_core.items()
        for what in ("networks", "boards")
    }
    for what in ("networks", "boards"):
        whole[f"ncnn {what}"] = [t for name, rows in by_board.items() if name.endswith(what) for t in rows]
    tiny = {
        name: list(totals("mlperf tiny", found, lambda r: f"{r.net.name}, {r.label}"))
        for name, found in micro(facts).items()
    }
    whole |= {f"tiny {name}": rows for name, rows in tiny.items()}
    wires, steps = collectives.results(asked.data), list(training.results(asked.data))
    text = page.HEAD.format(budget=BUDGET, counted=COUNTED)
    text += (
        "## Aims\n\n"
        + page.targets(trials, whole)
        + collectives.aims(wires)
        + training.aims(steps)
        + "\n"
        + (Path(__file__).parent / "notes.md").read_text(encoding="utf-8")
        + "\n"
    )
    for title, kinds in (("Matrix products", ("gemm",)), ("Attention", ("attention",)),
                         ("Memory-bound operators", ("elementwise", "norm", "softmax", "gather")), ("Convolution", ("conv",))):  # fmt: skip
        text += (
            f"## {title}\n\n"
            + page.kernels_table(trials, kinds)
            + "\nWorst counted rows:\n\n"
            + page.worst(trials, kinds)
            + "\n"
        )
    text += "Devices that tell about one nobody measured:\n\n" + page.unseen_note(groups) + "\n"
    text += (
        "## Transformers in FP32 (NeuSight's runs)\n\n"
        + page.totals_table(whole["neusight"], ("neusight", "habitat", "li_et_al", "roofline"))
        + "\n"
    )
    text += (
        "## Requests to a language model (PipeWeave's runs on one card)\n\n"
        + page.totals_table(whole["requests"], ("pipeweave", "neusight", "habitat", "linear", "roofline"))
        + "\n"
    )
    text += (
        "## Vision networks (timm), each family of networks left out in turn\n\n"
        + page.summary_table(by_device)
        + "\n"
    )
    text += "## Arm boards (ncnn)\n\n" + page.summary_table(by_board) + "\n"
    text += "## Microcontrollers (MLPerf Tiny)\n\n" + page.summary_table(tiny)
    text += "\n## Collectives\n\n" + collectives.section(wires)
    text += "\n## Training steps over several GPUs (vTrain's runs)\n\n" + training.section(steps) + "\n"
    served = serving.trials(asked.data)
    text += serving.section(served)
    text += "\n" + power_section(asked.data)
    (ROOT / "docs/accuracy.md").write_text(text, encoding="utf-8")
    if asked.profiles:
        from cores import write_cores
        from profiles import write_machines, write_prior

        serving.write_facts(served)
        write_machines(trials)
        write_power(powers(asked.data))
        write_prior(groups)
        collectives.write_facts(wires)
        training.write_facts(steps)
        write_cores(asked.data, {core: found["boards"] for core, found in by_core.items()})
    print(f"{time.perf_counter() - start:6.0f} s  docs/accuracy.md written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
