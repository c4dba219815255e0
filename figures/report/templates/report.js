"use strict";
(() => {
  const form = document.querySelector(".filters");
  const tiles = [...document.querySelectorAll(".tile")];
  const rows = [...document.querySelectorAll(".ledger [data-claim]")];
  const claims = new Map([...document.querySelectorAll("article[data-claim]")].map((one) => [one.id, one]));
  const plain = (words) => words.toLowerCase().replace(/[_^()]/g, ""); // W_p is set with an index, and found as typed
  const text = new Map(rows.map((row) => [row, plain(claims.get(row.dataset.claim).textContent)]));
  const [q, scale, place] = ["q", "scale", "place"].map((name) => form.elements[name]);

  // A picture is in the file once; where a claim shows it small, it borrows the bytes from its section below.
  for (const img of document.querySelectorAll("img[data-figure]")) {
    img.src = document.querySelector(`#figure-${CSS.escape(img.dataset.figure)} .zoom > img`).src;
    img.hidden = false;
  }

  const chosen = () => tiles.filter((tile) => tile.getAttribute("aria-pressed") === "true").map((tile) => tile.dataset.verdict);

  function state() {
    const all = { verdict: chosen().join(","), scale: scale.value, place: place.value, q: q.value.trim() };
    return new URLSearchParams(Object.entries(all).filter(([, value]) => value)).toString();
  }

  function apply() {
    const verdicts = chosen();
    const words = plain(q.value).split(/\s+/).filter(Boolean);
    const fits = (row, verdict) =>
      (!scale.value || row.dataset.scale === scale.value) &&
      (!place.value || row.dataset.place === place.value) &&
      words.every((word) => text.get(row).includes(word)) &&
      (!verdict.length || verdict.includes(row.dataset.verdict));
    let shown = 0;
    for (const row of rows) {
      const fit = fits(row, verdicts);
      row.hidden = claims.get(row.dataset.claim).hidden = !fit;
      shown += fit;
    }
    for (const tile of tiles) {
      tile.querySelector(".count").textContent = rows.filter((row) => fits(row, [tile.dataset.verdict])).length;
    }
    form.querySelector(".shown b").textContent = shown;
    document.querySelector(".none").hidden = shown > 0 || !rows.length;
  }

  function remember() {
    apply();
    const now = state();
    history.replaceState(null, "", now ? `#${now}` : location.pathname + location.search);
  }

  function set(values) {
    for (const tile of tiles) {
      tile.setAttribute("aria-pressed", String((values.get("verdict") || "").split(",").includes(tile.dataset.verdict)));
    }
    for (const field of [scale, place]) {
      field.value = values.get(field.name) || "";
      if (field.selectedIndex < 0) field.value = "";
    }
    q.value = values.get("q") || "";
    apply();
  }

  // The hash is either a set of filters (verdict=fails&place=…) or a place in the page.
  function follow() {
    const hash = location.hash.slice(1);
    if (!hash || hash.includes("=")) return set(new URLSearchParams(hash));
    let name = hash;
    try { name = decodeURIComponent(hash); } catch { /* typed by hand: no place of this page */ }
    const target = document.getElementById(name);
    if (!target) return;
    if (target.hidden) {
      set(new URLSearchParams());
      target.scrollIntoView();
    }
    if (target.tabIndex === -1) target.focus({ preventScroll: true });
  }

  for (const tile of tiles) {
    tile.addEventListener("click", () => {
      tile.setAttribute("aria-pressed", String(tile.getAttribute("aria-pressed") !== "true"));
      remember();
    });
  }
  const clear = () => { set(new URLSearchParams()); remember(); };
  form.addEventListener("input", remember);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => { event.preventDefault(); clear(); });
  document.querySelector(".none .reset").addEventListener("click", clear);
  addEventListener("hashchange", follow);

  const dialog = document.querySelector("dialog");
  for (const button of document.querySelectorAll(".zoom")) {
    button.addEventListener("click", () => {
      const picture = button.firstElementChild.cloneNode();
      dialog.querySelector("div").replaceChildren(picture);
      dialog.showModal();
    });
  }
  dialog.addEventListener("click", (event) => { if (event.target.closest("button") || event.target === dialog) dialog.close(); });

  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details:not([open])")) { one.open = true; one.dataset.printed = ""; }
  });
  addEventListener("afterprint", () => {
    for (const one of document.querySelectorAll("details[data-printed]")) { one.open = false; delete one.dataset.printed; }
  });
  follow();
})();
