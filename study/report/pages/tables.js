"use strict";
/** Return a cell's number, its text, or null for a dash. */
function sortKey(cell) {
  const text = cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent.trim();
  const value = Number(text.replace("−", "-"));
  return text !== "" && !Number.isNaN(value) ? value : text === "–" ? null : text.toLowerCase();
}
function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);  // dashes stay last either way
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
}
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map(row => [sortKey(row.cells[column]), row]);
      rows.sort((a, b) => compare(a[0], b[0], sign));
      table.tBodies[0].append(...rows.map(pair => pair[1]));
    });
  });
}
// On a narrow screen a figure fits the width; a tap shows it at a size that can be read.
for (const picture of document.querySelectorAll("figure.chart img, figure.overlays img")) {
  picture.addEventListener("click", () => picture.classList.toggle("large"));
}
// A reader of the printed page cannot open the planning sheets.
addEventListener("beforeprint", () => document.querySelectorAll("details.plan").forEach(plan => { plan.open = true; }));
