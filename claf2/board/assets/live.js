// Asks the server whether there are newer results, and shows them in place: what is sorted, searched, picked and hidden stays.
"use strict";
(() => {
  const { byId, root } = board;
  const EVERY = 2000;
  const say = (text) => { if (byId("live")) byId("live").textContent = text; };

  const renew = async () => {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    const old = byId("table");
    const table = next.getElementById("table");
    // A page that gains its first table, and one without tables, are loaded again.
    if (!old || !table) { location.reload(); return; }
    board.table.renew(document.adoptNode(table));
    board.steps.renew(document.adoptNode(next.getElementById("steps")));
    for (const selector of ["#options", "#problems", ".facts", "nav", ".legend"]) {
      const [from, to] = [next.querySelector(selector), document.querySelector(selector)];
      if (from && to) to.replaceWith(document.adoptNode(from));
    }
    root.dataset.version = next.documentElement.dataset.version;
    say(`updated ${new Date().toLocaleTimeString()}`);
  };

  const ask = async () => {
    try {
      if (document.hidden) return;
      const answer = await fetch(root.dataset.versionUrl, { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      if (String((await answer.json()).changes) !== root.dataset.version) await renew();
      else if (byId("live")?.dataset.lost) say("");
      if (byId("live")) delete byId("live").dataset.lost;
    } catch {
      if (byId("live")) byId("live").dataset.lost = "1";
      say("the server does not answer; trying again");
    } finally {
      setTimeout(ask, EVERY);
    }
  };

  if (root.dataset.versionUrl) setTimeout(ask, EVERY);
})();
