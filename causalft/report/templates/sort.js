// A header sorts its table: ascending, descending, then as given. Cells without a value stay last; ties keep their order.
for (const table of document.querySelectorAll("table.sortable")) {
  const given = [...table.tBodies[0].rows];
  const words = new Intl.Collator("en", { numeric: true });
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  const heads = [...table.tHead.rows[0].cells];
  const sort = (place, order) => {
    const byNumber = heads[place].dataset.sort === "number";
    const keyed = given.map((row) => {
      const cell = row.cells[place];
      return { row, key: cell.dataset.sort ?? cell.textContent.trim() };
    });
    const sign = order === "descending" ? -1 : 1;
    if (order !== "none") {
      keyed.sort((a, b) => {
        if (!a.key || !b.key) return !a.key - !b.key;
        return sign * (byNumber ? Math.sign(a.key - b.key) || 0 : words.compare(a.key, b.key));
      });
    }
    table.tBodies[0].append(...keyed.map(({ row }) => row));
    heads.forEach((head, k) => {
      if (k === place && order !== "none") head.setAttribute("aria-sort", order);
      else head.removeAttribute("aria-sort");
    });
  };
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(place, next[head.getAttribute("aria-sort") ?? "none"]));
    head.append(button);
  });
}
