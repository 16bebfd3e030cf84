// Sorting, filtering and saving of the tables of operators; without scripts they stand as they are.
(() => {
  "use strict";
  const all = JSON.parse(document.getElementById("rows").textContent);
  for (const section of document.querySelectorAll(".operators")) {
    const data = all[Number(section.dataset.part)];
    const body = section.querySelector("tbody");
    const heads = [...section.querySelectorAll("thead th")];
    const entries = [...body.rows].map((row, i) => ({ row, values: data.rows[i] }));
    const shown = section.querySelector(".shown");
    const search = section.querySelector("input");

    const compare = (a, b) => {
      const missing = (v) => v === null || v === "" || v === "-";
      if (missing(a) || missing(b)) return missing(a) - missing(b);
      return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    };
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent.trim();
      head.textContent = "";
      head.append(button);
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("number");
        const now = head.getAttribute("aria-sort");
        const order = now === "descending" ? "ascending" : now === "ascending" || numeric ? "descending" : "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        entries.sort((a, b) => sign * compare(a.values[column], b.values[column]));
        body.append(...entries.map((entry) => entry.row));
      });
    });

    const filter = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const { row, values } of entries) {
        const text = values.filter((v) => typeof v === "string").join(" ").toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        count += !row.hidden;
      }
      shown.textContent = `${count} of ${entries.length} shown`;
    };
    search.addEventListener("input", filter);

    section.querySelector(".csv").addEventListener("click", () => {
      // a text that a spreadsheet would take for a formula is kept a text
      const field = (v) => {
        const text = v === null ? "" : typeof v === "string" && /^[=+\-@]/.test(v) && v !== "-" ? `'${v}` : String(v);
        return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
      };
      const lines = [data.columns, ...entries.filter((e) => !e.row.hidden).map((e) => e.values)];
      const link = document.createElement("a");
      const text = lines.map((line) => line.map(field).join(",")).join("\n") + "\n";
      link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
      link.download = section.dataset.file.replace(/[^\w.-]+/g, "_") + ".csv";
      link.click();
      URL.revokeObjectURL(link.href);
    });
    section.querySelector(".tools").hidden = false;
    filter();
  }
})();
