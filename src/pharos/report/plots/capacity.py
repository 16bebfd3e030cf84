"""Capacity: users that fit at each context, beside remedies, with what is asked for marked."""

from dataclasses import replace
from math import ceil, log2
from typing import Any

from pharos.plan.capacity import capacity as room_of
from pharos.plan.capacity import max_users
from pharos.plan.deployment import Deployment
from pharos.plan.serving import Serving
from pharos.quantity.dtypes import BITS
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.units import fmt
from pharos.report.drawing import Figure
from pharos.report.marks import haloed, lines, log_axis, place, short_machine
from pharos.report.plotting import plot

WIDTH, HEIGHT = 490, 330
# Contexts a doubling at which a line is computed, and how far it reaches below and beyond what is asked.
FINE, BELOW, BEYOND = 4, 16, 64
AS_ASKED = "as asked"


@plot("capacity", "users that fit at each context, as asked and with remedies", takes="serving")
def capacity(serving: Serving) -> Figure:
    """Lines of the most users by context: of the deployment, of a narrower cache, of twice the devices.

    Raises:
        InputError: nothing fits in any of them.
    """
    made, asked = serving.deployment, serving.context
    contexts = _contexts(asked, made.max_context)
    data: dict[str, list[dict[str, Any]]] = {"users": []}
    for name, one in _variants(made):
        try:
            room = room_of(one, context=asked)
            found = [(c, max_users(one, room, c)) for c in contexts]
        except PharosError:
            continue
        data["users"] += [
            {"deployment": name, "context": c, "users": n, "cache_bytes": int(one.whole_kept.bytes_at(c)),
             "cache": fmt(one.whole_kept.bytes_at(c), "B")}
            for c, n in found if n >= 1
        ]  # fmt: skip
    if not data["users"]:
        raise InputError("not one user fits at any context", where=f"{made.model.name} on {made.machine.id}",
                         hint="`pharos serve` says what is missing")  # fmt: skip
    spans = _spans(data["users"], serving)
    text = f"{serving.users:,} of {asked:,} tokens {'fit' if serving.fits else 'do NOT fit'}"
    data["asked"] = [{"context": asked, "users": serving.users, "fits": serving.fits, "text": text}]
    order = list(dict.fromkeys(r["deployment"] for r in data["users"]))
    data["words"] = _words(data, spans, order)
    devices = f"{made.devices} x " if made.devices > 1 else ""
    on = f"{devices}{short_machine(made.machine)}"
    here = {r["deployment"]: r["users"] for r in data["users"] if r["context"] == asked}
    told = "; ".join(f"{name}: {here.get(name, 0):,}" for name in order)
    curve = ", ".join(f"{n:,} at {c:,}" for c, n in serving.curve)
    free = max(serving.room.pool, 0.0)
    return Figure.of(
        _chart(data, spans, order), name="capacity", data=data,
        title=f"{made.model.name} on {on}: {serving.max_users:,} users of {asked:,} tokens fit",
        source=lines(
            f"{made.precision}; {fmt(serving.room.memory, 'B')} a device, {fmt(serving.room.weights, 'B')} "
            f"weights, {fmt(free, 'B')} for caches; {made.utilization:.0%} of the memory is used",
            f"cache of a user {fmt(serving.kv_bytes_per_request, 'B')}, counted; memory "
            f"{' and '.join(dict.fromkeys(e.kind.value for e in serving.room.evidence)) or 'spec'}",
        ),
        alt=f"Users of {made.model.name} that fit on {on} by context: {curve}. At {asked:,} tokens: {told}. "
            f"{data['asked'][0]['text']}.",
    )  # fmt: skip


def _contexts(asked: int, most: int | None) -> list[int]:
    steps = range(-FINE * int(log2(BELOW)), FINE * int(log2(BEYOND)) + 1)
    found = {max(round(asked * 2 ** (i / FINE)), 1) for i in steps} | {asked}
    kept = {c for c in found if most is None or c <= most}
    return sorted(kept | ({most} if most is not None and most > asked else set()))


def _variants(made: Deployment) -> list[tuple[str, Deployment]]:
    """What is asked, then one change each."""
    found = [(AS_ASKED, made)]
    cache = made.precision.kv_cache
    if BITS[cache] > 8:
        found.append(("8-bit cache", made.but(precision=replace(made.precision, kv_cache="int8"))))
    if BITS[made.precision.weights] > 8:
        found.append(("8-bit weights", made.but(precision=replace(made.precision, weights="int8"))))
    found.append((f"{2 * made.devices} devices", made.but(devices=2 * made.devices)))
    return found


def _spans(rows: list[dict[str, Any]], serving: Serving) -> tuple[float, float, float, float]:
    contexts, users = [r["context"] for r in rows], [r["users"] for r in rows]
    top = max(*users, serving.users)
    return min(*contexts, serving.context), max(*contexts, serving.context), 1, 2.0 ** ceil(log2(top) + 0.3)


def _words(
    data: dict[str, list[dict[str, Any]]], spans: tuple[float, ...], order: list[str]
) -> list[dict[str, Any]]:
    """The name of each line, beside it where it stands free, and of the point."""
    x0, x1, y0, y1 = spans

    def at(c: float, n: float) -> tuple[float, float]:
        return log2(c / x0) / log2(x1 / x0) * WIDTH, (1 - log2(n / y0) / log2(y1 / y0)) * HEIGHT

    circles = [(*at(r["context"], r["users"]), 2.5) for r in data["users"]]
    point = data["asked"][0]
    wanted = [(*at(point["context"], max(point["users"], 1)), 7.0, point["text"])]
    rows, kinds = [], [""]
    for number, name in enumerate(order):
        line = [r for r in data["users"] if r["deployment"] == name]
        spot = line[(len(line) * (2 + number)) // 7]
        wanted.append((*at(spot["context"], spot["users"]), 3.0, name))
        kinds.append(name)
    for found, kind in zip(
        place(wanted, WIDTH, HEIGHT, circles=circles, far=range(len(wanted))), kinds, strict=True
    ):
        if found is not None:
            c = x0 * (x1 / x0) ** (found.x / WIDTH)
            n = y0 * (y1 / y0) ** (1 - found.y / HEIGHT)
            rows.append({"context": c, "users": n, "text": found.text, "deployment": kind})
    return rows


def _chart(data: dict[str, Any], spans: tuple[float, ...], order: list[str]) -> Any:
    import altair as alt

    x0, x1, y0, y1 = spans
    powers = [float(2**k) for k in range(31) if x0 <= 2**k <= x1]
    plain = "format(datum.value, ',d')"
    x = log_axis("context", "context, tokens a user", "", x0, x1, vertical=False,
                 values=powers[:: 1 if len(powers) <= 9 else 2], labels=plain)  # fmt: skip
    y = log_axis("users", "users that fit", "", y0, y1, vertical=True, labels=plain)
    told = alt.Legend(title=None, orient="bottom", symbolType="stroke")
    colour = alt.Color("deployment:N", scale=alt.Scale(domain=order), legend=told)
    dashes = [[1, 0], [7, 4], [2, 3], [10, 3, 2, 3]][: len(order)]
    dash = alt.StrokeDash("deployment:N", scale=alt.Scale(domain=order, range=dashes), legend=told)
    hint = [
        "deployment:N",
        alt.Tooltip("context:Q", format=","),
        alt.Tooltip("users:Q", format=","),
        "cache:N",
    ]
    users = alt.Chart(alt.NamedData("users"))
    asked = alt.Chart(alt.NamedData("asked")).encode(x=x, y=y)
    area = users.transform_filter(f"datum.deployment == '{AS_ASKED}'").mark_area(
        opacity=0.10, interpolate="linear", line=False
    )
    words = alt.Chart(alt.NamedData("words")).encode(x=x, y=y, text="text:N")
    return alt.layer(
        area.encode(x=x, y=y, y2=alt.datum(y0)),
        users.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, strokeDash=dash, tooltip=hint),
        asked.mark_point(shape="diamond", filled=True, size=170, style=["ink"]).encode(
            tooltip=["text:N"]
        ),
        *haloed(words, align="left", baseline="middle"),
    ).properties(width=WIDTH, height=HEIGHT)  # fmt: skip
