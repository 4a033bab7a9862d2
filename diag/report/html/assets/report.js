"use strict";

function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");  // a file opened from disk has no clipboard of its own
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  return Promise.resolve();
}

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", () => {
    copyText(button.parentElement.querySelector("pre").textContent).then(
      () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; }, 1500); },
      () => { button.textContent = "Select it"; });
  });
}

function drawMap() {
  const style = getComputedStyle(document.documentElement);
  const colours = [0, 1, 2, 3, 4, 5].map((level) => style.getPropertyValue("--l" + level));
  for (const canvas of document.querySelectorAll("canvas[data-cells]")) {
    const cells = canvas.dataset.cells;
    canvas.width = Math.max(canvas.clientWidth, cells.length);
    const context = canvas.getContext("2d"), width = canvas.width / cells.length;
    for (let i = 0; i < cells.length; i++) {
      if (cells[i] === "-") continue;
      context.fillStyle = colours[Number(cells[i])];
      context.fillRect(Math.floor(i * width), 0, Math.max(1, Math.ceil(width) - (width > 4 ? 1 : 0)), canvas.height);
    }
  }
}
drawMap();
window.addEventListener("resize", drawMap);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);

const table = document.getElementById("op-table");
if (table) {
  const body = table.tBodies[0], rows = [...body.rows];
  const field = document.getElementById("filter"), onlyWrong = document.getElementById("only-wrong");
  const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase());

  const filter = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word)) || (onlyWrong.checked && row.className !== "wrong");
      shown += row.hidden ? 0 : 1;
    });
    document.getElementById("shown").textContent = shown + " of " + rows.length;
  };
  field.addEventListener("input", filter);
  onlyWrong.addEventListener("change", filter);
  filter();

  const numberOf = (cell) => {
    const number = Number(cell.dataset.value === "inf" ? "Infinity" : cell.dataset.value.replaceAll(",", ""));
    return Number.isNaN(number) ? -1 : number;
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.addEventListener("click", () => {
      const isNumber = head.dataset.sort === "number";
      const first = isNumber && column > 0 ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const compare = isNumber
        ? (a, b) => numberOf(a.cells[column]) - numberOf(b.cells[column])
        : (a, b) => a.cells[column].textContent.localeCompare(b.cells[column].textContent);
      body.append(...[...rows].sort((a, b) => sign * compare(a, b)));
    });
  });

  body.addEventListener("click", (event) => {  // what a link to an op leads to must be there
    if (!event.target.matches("a[href^='#op-']")) return;
    const row = document.getElementById(event.target.hash.slice(1));
    if (row && row.hidden) {
      field.value = "";
      onlyWrong.checked = false;
      filter();
    }
  });

  for (const unit of document.querySelectorAll("a.unit")) {
    unit.addEventListener("click", () => {
      field.value = unit.dataset.layer + (unit.dataset.phase === "optimizer" ? "" : " " + unit.dataset.phase);
      filter();
    });
  }
}
