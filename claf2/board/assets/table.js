// The table of a suite: sort, search, pages of rows, and rows that are picked to be shown or compared.
"use strict";
board.table = (() => {
  const { byId } = board;
  const PAGE = 50;
  const picked = new Set();
  let api = null;
  let onlyPicked = false;

  /** Compare scores; what was not measured comes last in either direction. */
  const order = (sign) => (a, b) => {
    const [x, y] = [parseFloat(a), parseFloat(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  };

  const showRowCount = () => {
    const { recordsDisplay, recordsTotal } = api.page.info();
    byId("row-count").value = recordsDisplay === recordsTotal ? `${recordsTotal} rows` : `${recordsDisplay} of ${recordsTotal} rows`;
  };

  const keyOf = (row) => row.dataset.key;

  const showPicks = () => {
    byId("clear-picks").disabled = byId("only-picked").disabled = picked.size === 0;
    byId("compare").disabled = picked.size !== 2;
    byId("only-picked").setAttribute("aria-pressed", String(onlyPicked));
    byId("only-picked").textContent = picked.size ? `only picked (${picked.size})` : "only picked";
    document.dispatchEvent(new Event("picks"));
  };

  /** Show the picked rows and the published ones, or all. */
  const filter = () => {
    if (onlyPicked) api.search.fixed("picked", (text, data, index) => { const row = api.row(index).node(); return picked.has(keyOf(row)) || row.classList.contains("published"); });
    else api.search.fixed("picked", null);
    api.draw();
  };

  const setOnlyPicked = (value) => {
    onlyPicked = value;
    filter();
    showPicks();
  };

  const onPick = ({ target }) => {
    if (!target.classList?.contains("pick")) return;
    const row = target.closest("tr");
    if (target.checked) picked.add(keyOf(row));
    else picked.delete(keyOf(row));
    row.classList.toggle("picked", target.checked);
    if (onlyPicked) setOnlyPicked(picked.size > 0);
    else showPicks();
  };

  const clearPicks = () => {
    api.rows(".picked").nodes().toArray().forEach((row) => { row.classList.remove("picked"); row.querySelector(".pick").checked = false; });
    picked.clear();
    setOnlyPicked(false);
    byId("search").focus();
  };

  /** Compare the picked rows: on a page of the server, else in the chart. */
  const compare = () => {
    const [first, second] = picked;
    const { url } = byId("compare").dataset;
    if (url) location.assign(`${url}&a=${encodeURIComponent(first)}&b=${encodeURIComponent(second)}`);
    else document.dispatchEvent(new CustomEvent("compare", { detail: [first, second] }));
  };

  const create = (element, state = {}) => {
    api = new DataTable(element, {
      paging: element.tBodies[0].rows.length > PAGE, pageLength: PAGE, info: false, autoWidth: false, order: state.order ?? [],
      layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
      language: { zeroRecords: "No row has all of these words.", emptyTable: "Nothing was measured." },
      columnDefs: [
        // The first entry that matches a column is the one used.
        { targets: ".lower", orderSequence: ["asc", "desc", ""] },
        { targets: ".score", type: "score", searchable: false, orderSequence: ["desc", "asc", ""] },
        { targets: ".step", type: "score", searchable: false },
      ],
    });
    element.classList.add("ready");
    element.dataset.detail = byId("detail").value;
    api.on("draw", () => { showRowCount(); showPaging(); });
    element.addEventListener("change", onPick);
    api.rows().nodes().toArray().forEach((row) => {
      const isPicked = picked.has(keyOf(row));
      row.classList.toggle("picked", isPicked);
      if (isPicked) row.querySelector(".pick").checked = true;
    });
    if (byId("search").value) api.search(byId("search").value);
    filter();
    if (state.page) api.page(Math.min(state.page, api.page.info().pages - 1)).draw("page");
  };

  /** The buttons that turn the pages of a long table. */
  const showPaging = () => {
    const { page, pages, start, end, recordsDisplay } = api.page.info();
    const place = byId("paging");
    if (pages < 2 && api.page.len() === PAGE) { place.replaceChildren(); return; }
    const button = (text, enabled, action) => {
      const element = board.make("button", { type: "button", disabled: !enabled }, text);
      element.addEventListener("click", () => {
        action();
        [...place.children].find((child) => child.textContent === text && !child.disabled)?.focus();
      });
      return element;
    };
    const turn = (where) => () => api.page(where).draw("page");
    const all = api.page.len() === -1;
    place.replaceChildren(
      ...(all ? [] : [
        button("‹ previous", page > 0, turn("previous")),
        board.make("span", {}, `rows ${start + 1} to ${end} of ${recordsDisplay}`),
        button("next ›", page < pages - 1, turn("next")),
      ]),
      button(all ? `${PAGE} rows a page` : "all rows", true, () => api.page.len(all ? PAGE : -1).draw()),
    );
  };

  const start = () => {
    const element = byId("table");
    if (!element) return;
    DataTable.type("score", { order: { asc: order(1), desc: order(-1) } });
    create(element);
    byId("search").addEventListener("input", (event) => api.search(event.target.value).draw());
    byId("detail").addEventListener("change", (event) => { byId("table").dataset.detail = event.target.value; });
    byId("only-picked").addEventListener("click", () => setOnlyPicked(!onlyPicked));
    byId("clear-picks").addEventListener("click", clearPicks);
    byId("compare").addEventListener("click", compare);
  };

  /** Replace the table by a newer one, as it is sorted, searched and paged. */
  const renew = (element) => {
    const state = { order: api.order(), page: api.page.info().page };
    const scroll = byId("table").closest(".scroll");
    const focused = document.activeElement?.closest?.("#table tr")?.dataset.key;
    api.destroy();
    scroll.replaceChildren(element);
    create(element, state);
    const row = focused && [...element.tBodies[0].rows].find((other) => keyOf(other) === focused);
    row?.querySelector(".pick")?.focus();
    showPicks();
  };

  start();
  return { picked, renew };
})();
