
(() => {
  "use strict";
  const root = document.documentElement;
  const at = (id) => document.getElementById(id);
  const all = (where, what) => (where ? [...where.querySelectorAll(what)] : []);
  root.classList.add("js");

  const gallery = at("gallery"), rows = at("rows"), badTable = document.querySelector("table.bad");
  const cards = all(gallery, ":scope > li"), lines = all(rows, ":scope > tr"), bad = all(badTable, "tbody > tr");
  const name = (node) => (node.dataset.name ?? node.querySelector("th").textContent).trim();
  const names = new Map([...cards, ...lines, ...bad].map((node) => [node, name(node).toLowerCase()]));
  const visible = () => all(gallery, ":scope > li:not([hidden])");

  // ---- which items are shown, and in which order
  const wanted = () => ({
    text: at("find").value.trim().toLowerCase(),
    state: document.querySelector("input[name=state]:checked").value,
    product: at("product") ? at("product").value : "",
  });
  const choose = () => {
    const { text, state, product } = wanted();
    const fits = (node, own) =>
      (!text || names.get(node).includes(text)) && (!state || own === state) &&
      (!product || node.dataset.product === product);
    let found = 0, pictured = 0;
    for (const node of cards) { node.hidden = !fits(node, node.dataset.state); pictured += !node.hidden; }
    for (const node of lines) { node.hidden = !fits(node, node.dataset.state); found += !node.hidden; }
    for (const node of bad) { node.hidden = !fits(node, "bad"); found += !node.hidden; }
    at("told").textContent = text || state || product ? `${found} found` : "";
    if (at("empty")) at("empty").hidden = pictured > 0;
  };
  const orders = {
    rank: (a, b) => a.dataset.rank - b.dataset.rank,
    score: (a, b) => a.dataset.score - b.dataset.score,
    p: (a, b) => a.dataset.p - b.dataset.p || a.dataset.rank - b.dataset.rank,
    name: (a, b) => names.get(a).localeCompare(names.get(b), undefined, { numeric: true }),
  };
  const sort = () => {
    const order = orders[at("sort").value];
    if (gallery) gallery.append(...cards.sort(order));
    if (rows) rows.append(...lines.sort(order));
  };
  if (at("controls")) {
    at("find").addEventListener("input", choose);
    for (const radio of all(document, "input[name=state]")) radio.addEventListener("change", choose);
    if (at("product")) at("product").addEventListener("change", choose);
    at("sort").addEventListener("change", sort);
  }

  // ---- heat maps and boxes
  const sliders = [at("opacity"), at("large-opacity")].filter(Boolean);
  let before = 75;
  const strength = (value) => {
    value = Math.min(100, Math.max(0, value));
    for (const slider of sliders) slider.value = value;
    root.style.setProperty("--heat", value / 100);
  };
  for (const slider of sliders) slider.addEventListener("input", () => strength(+slider.value));
  const boxes = at("boxes");
  const show = (on) => { boxes.checked = on; root.classList.toggle("no-boxes", !on); };
  if (boxes) boxes.addEventListener("change", () => show(boxes.checked));
  const look = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "b" && boxes) return show(!boxes.checked);
    if (!sliders.length) return;
    const now = +sliders[0].value;
    if (event.key === "h") { if (now) { before = now; strength(0); } else strength(before); }
    else if (event.key === "-") strength(now - 10);
    else if (event.key === "+" || event.key === "=") strength(now + 10);
  };

  // ---- one item large
  const large = at("large");
  let current = null;
  const enlarge = (card) => {
    current = card;
    const order = visible();
    at("large-name").textContent = card.dataset.name;
    at("large-picture").replaceChildren(card.querySelector(".picture").cloneNode(true));
    at("large-facts").className = card.className.replace("card", "");
    at("large-facts").replaceChildren(...all(card, ".line, dl").map((node) => node.cloneNode(true)));
    at("large-place").textContent = `${order.indexOf(card) + 1} of ${order.length}`;
    if (!large.open) large.showModal();
  };
  const step = (by) => {
    const order = visible();
    if (order.length) enlarge(order[(order.indexOf(current) + by + order.length) % order.length]);
  };
  if (gallery) {
    gallery.addEventListener("click", (event) => {
      const button = event.target.closest(".open");
      if (button) enlarge(button.closest("li"));
    });
    gallery.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return look(event);
      const order = visible(), next = order[order.indexOf(event.target.closest("li")) + by];
      if (next) { event.preventDefault(); next.querySelector(".open").focus(); }
    });
    large.addEventListener("click", (event) => {
      const button = event.target.closest("[data-do]");
      if (event.target === large || (button && button.dataset.do === "close")) large.close();
      else if (button) step(button.dataset.do === "on" ? 1 : -1);
    });
    large.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by && event.target.type !== "range") { event.preventDefault(); step(by); } else look(event);
    });
    large.addEventListener("close", () => { if (current) current.querySelector(".open").focus(); });
  }
})();
