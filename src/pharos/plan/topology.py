"""Topology: devices in nodes, the links inside a node and between nodes, each with its source."""

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pharos.facts.names import fold
from pharos.facts.tables import table
from pharos.machines.machine import Machine
from pharos.quantity.errors import InputError, PharosError, unknown
from pharos.quantity.evidence import Evidence, assumed, spec
from pharos.quantity.units import fmt, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a device sends and receives over; full duplex.

    Args:
        id: such as nvlink-4, pcie-3, infiniband-ndr.
        kind: nvlink, pcie, xgmi, ici, neuronlink, roce, infiniband, ethernet or custom.
        generation: of its kind, where it has one; "nearest" for the choice of fitted constants.
        bytes_per_s: of one device in one direction.
        adds: a switch on the way can add and copy (SHARP, NVLS).
    """

    id: str
    kind: str
    bytes_per_s: float
    evidence: Evidence
    generation: str = ""
    adds: bool = False

    def __str__(self) -> str:
        return f"{self.id} ({fmt(self.bytes_per_s, 'B/s')} a device and direction)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Devices in nodes of `per_node`.

    Args:
        inside: link between devices of a node; across: between nodes. None where there is none.
    """

    devices: int
    per_node: int
    inside: Link | None
    across: Link | None

    def __post_init__(self) -> None:
        if self.devices < 1 or self.per_node < 1:
            raise InputError(f"a topology needs devices, not {self.devices} in nodes of {self.per_node}")
        if self.devices > self.per_node and self.devices % self.per_node:
            near = max(self.devices // self.per_node, 1) * self.per_node
            raise InputError(
                f"{self.devices} devices do not fill nodes of {self.per_node}",
                hint=f"nearest: {near} or {near + self.per_node} devices",
            )
        if self.per_node > 1 and self.devices > 1 and self.inside is None:
            raise InputError(
                "devices of a node have no link between them", hint="name one: --link pcie-4 or --link 50GB/s"
            )
        if self.nodes > 1 and self.across is None:
            raise InputError(
                f"{self.nodes} nodes have no network between them",
                hint="name one: --network infiniband-ndr or --network 400Gb/s",
            )

    @property
    def nodes(self) -> int:
        """Nodes that hold all devices."""
        return max(1, self.devices // self.per_node)

    @property
    def group(self) -> int:
        """Devices of one node that take part."""
        return min(self.devices, self.per_node)

    def link(self, level: str) -> Link:
        """The link of a level, "inside" or "across"."""
        found = self.inside if level == "inside" else self.across
        if found is None:
            raise InputError(f"there is no link {level} the nodes")
        return found


@cache
def _links() -> dict[str, Link]:
    """Every link of the facts by its id."""
    data, found = table("links"), {}

    def put(id_: str, kind: str, row: dict[str, Any], rate: float, **more: Any) -> None:
        source = row["source"]
        named = ", ".join(source) if isinstance(source, list) else str(source)
        found[id_] = Link(id=id_, kind=kind, bytes_per_s=float(rate), evidence=spec(named), **more)

    for row in data["nvlink"]["generations"]:
        gen = str(row["gen"])
        if gen.isdigit():
            put(f"nvlink-{gen}", "nvlink", row, row["bandwidth_bytes_per_s"], generation=gen,
                adds=int(gen) >= 4)  # fmt: skip
    for row in data["pcie"]["generations"]:
        put(f"pcie-{row['gen']}", "pcie", row, row["bandwidth_bytes_per_s"], generation=str(row["gen"]))
    for row in data["infinity_fabric_xgmi"]:
        name = str(row["gpu"]).partition("/")[0].lower()
        put(f"xgmi-{name}", "xgmi", row, row["bandwidth_bytes_per_s"], generation=name)
    for row in data["infiniband"]["generations"]:
        put(f"infiniband-{row['gen'].lower()}", "infiniband", row, row["bandwidth_bytes_per_s"],
            generation=row["gen"].lower())  # fmt: skip
    for row in data["ethernet"]["generations"]:
        rate = str(row["gen"]).removesuffix("GbE")
        put(f"ethernet-{rate}", "ethernet", row, row["bandwidth_bytes_per_s"], generation=rate)
    return found


def link_names() -> list[str]:
    """Links that can be named."""
    return list(_links())


def find_link(name: str, where: str = "") -> Link:
    """A link by its name (nvlink-4, infiniband-ndr, ethernet-400) or by its rate alone (400Gb/s, 50 GB/s).

    Raises:
        PharosError: no such link, or a rate of zero.
    """
    wanted = fold(name).replace("gbe", "")
    for id_, found in _links().items():
        if wanted in (fold(id_), fold(id_).replace("infiniband", "ib"), fold(id_).replace("infiniband", "")):
            return found
    if re.match(r"\s*[\d.]", name):
        try:
            rate = float(parse(name, "B/s"))
        except PharosError as error:
            raise error.at(where) from None
        if rate <= 0:
            raise InputError(
                "a link of 0 B/s carries nothing", where=where, hint="give its rate, such as 400Gb/s"
            )
        return Link(id=name.strip(), kind="custom", bytes_per_s=rate, evidence=spec(where or "given"))
    raise unknown("link", name, link_names(), where=where)


# What nodes are wired with where nobody says: one adapter a device, of the generation sold with its NVLink.
# The rows for DGX H100 and B300 stand in the facts under cluster_examples.
USUAL = {"1": "infiniband-edr", "2": "infiniband-edr", "3": "infiniband-hdr", "4": "infiniband-ndr",
         "5": "infiniband-ndr", "6": "infiniband-xdr"}  # fmt: skip


def link_of(machine: Machine) -> Link | None:
    """The fastest link of a machine to its neighbours; None where the catalogue knows none."""
    section, links = machine.links, _links()
    rate = machine.link_bytes_per_s
    gen = str(section.get("nvlink_gen") or "")
    if section.get("nvlink_bytes_per_s") and rate.value:
        base = links.get(f"nvlink-{gen or 3}")
        adds = bool(base and base.adds and "bridge" not in str(section.get("nvlink_note") or ""))
        return Link(id=f"nvlink-{gen or 3}", kind="nvlink", bytes_per_s=rate.value, evidence=rate.evidence,
                    generation=gen or "3", adds=adds)  # fmt: skip
    for key, kind in (("infinity_fabric_bytes_per_s", "xgmi"), ("ici_bytes_per_s", "ici"),
                      ("ici_link_bytes_per_s", "ici"), ("neuronlink_bytes_per_s", "neuronlink"),
                      ("roce_bytes_per_s", "roce")):  # fmt: skip
        if section.get(key) and rate.value:
            return Link(id=kind, kind=kind, bytes_per_s=rate.value, evidence=rate.evidence)
    lanes = re.search(r"Gen(\d)", str(section.get("pcie") or ""))
    return links.get(f"pcie-{lanes[1]}") if lanes else None


def topology_of(
    machine: Machine, devices: int, per_node: int | None = None, link: str | None = None,
    network: str | None = None,
) -> Topology:  # fmt: skip
    """Devices of one machine in nodes.

    Args:
        per_node: 8 by default, or all that its links join at once (the catalogue's `nvlink_domain`), or all
            where there are fewer.
        link: inside a node; by default the machine's own.
        network: between nodes; by default, as assumed, what is sold with that link: InfiniBand of its time,
            one adapter a device.

    Raises:
        PharosError: an unknown link, devices that fill no nodes, or no link where one is needed.
    """
    group = min(per_node or int(machine.links.get("nvlink_domain") or 8), devices)
    inside = find_link(link, "--link") if link else link_of(machine)
    if network:
        across: Link | None = find_link(network, "--network")
    else:
        usual = USUAL.get(inside.generation if inside and inside.kind == "nvlink" else "", "ethernet-100")
        across = replace(
            _links()[usual],
            evidence=assumed(f"{usual}, one adapter a device: what is usual beside {inside and inside.id}"),
        )
    return Topology(devices=devices, per_node=group, inside=inside, across=across)
