"""Lock: what limits came to when a project took them up, so that only growth fails from then on."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pharos.decide.verdict import BROKEN, HOLDS, UNKNOWN, Verdict
from pharos.facts.reading import read_text
from pharos.quantity.errors import InputError

# The file's usual name, beside the project's contracts.
NAME = "contract.lock.json"
SCHEMA = "pharos/lock@1"
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LockedLimit(_Strict):
    """A limit as it was, in SI units."""

    limit: Finite
    value: Finite | None = Field(None, description="None where it was unknown")
    low: Finite | None = None
    high: Finite | None = None
    margin: Finite | None = None
    verdict: str = Field(json_schema_extra={"enum": [HOLDS, BROKEN, UNKNOWN]})


class LockedContract(_Strict):
    """A contract as it was."""

    name: str
    limits: dict[str, LockedLimit]


class Lock(_Strict):
    """Contracts by their files, from the lock's folder."""

    schema_: str = Field(SCHEMA, alias="schema")
    pharos: str = Field("", description="the version that wrote it")
    contracts: dict[str, LockedContract]

    def limits(self, path: str, folder: Path) -> dict[str, dict[str, Any]] | None:
        """Rows of a contract's limits, as `pharos.decide.diff.limit_changes` takes them; None if not locked.

        Args:
            path: the contract; folder: the lock's.
        """
        found = self.contracts.get(_key(path, folder))
        return None if found is None else {name: limit.model_dump() for name, limit in found.limits.items()}


def read_lock(path: str | Path) -> Lock:
    """A lock file.

    Raises:
        InputError: missing, or not a lock.
    """
    try:
        return Lock.model_validate(json.loads(read_text(path)))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise InputError(f"is not a lock: {place}: {problem['msg']}", where=str(path)) from None
    except ValueError:
        raise InputError(
            "is not JSON", where=str(path), hint="pharos check --update-lock writes it"
        ) from None


def locked(verdicts: list[Verdict], path: Path, old: Lock | None = None) -> str:
    """The text of a lock file: these verdicts, and what an older lock says of other contracts."""
    from pharos.quantity.version import __version__

    contracts = {} if old is None else {key: c.model_dump() for key, c in old.contracts.items()}
    for verdict in verdicts:
        limits = {
            limit.name: {
                "limit": limit.limit, "value": _plain(limit.figure.value), "low": _plain(limit.figure.low),
                "high": _plain(limit.figure.high), "margin": limit.margin, "verdict": limit.verdict,
            }
            for limit in verdict.limits
        }  # fmt: skip
        contracts[_key(verdict.path, path.parent)] = {"name": verdict.contract.name, "limits": limits}
    told = {"schema": SCHEMA, "pharos": __version__, "contracts": dict(sorted(contracts.items()))}
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def lock_schema() -> dict[str, Any]:
    """The JSON Schema of lock files."""
    schema = Lock.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Pharos lock", **schema}


def _key(path: str, folder: Path) -> str:
    return os.path.relpath(path, folder).replace(os.sep, "/")


def _plain(value: Any) -> float | None:
    return None if value is None else float(value)
