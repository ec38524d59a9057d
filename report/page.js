"use strict";
(() => {
  const tip = document.getElementById("tip");
  const item = (at) => at instanceof Element && at.closest("[role=listitem]");

  const show = (el, x, y) => {
    tip.textContent = el.getAttribute("aria-label");
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
    tip.style.top = (y + 18 + box.height > innerHeight ? Math.max(4, y - box.height - 10) : y + 18) + "px";
  };
  const hide = () => { tip.hidden = true; };

  for (const rows of document.querySelectorAll(".rows")) {
    const all = [...rows.querySelectorAll("[role=listitem]")];
    const go = (el) => {
      for (const other of all) other.setAttribute("tabindex", other === el ? "0" : "-1");
      el.focus();
    };
    rows.addEventListener("keydown", (e) => {
      const at = all.indexOf(item(e.target));
      const to = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1, PageDown: at + 10, PageUp: at - 10 }[e.key];
      if (at < 0 || to === undefined) return;
      e.preventDefault();
      go(all[Math.max(0, Math.min(to, all.length - 1))]);
    });
    rows.addEventListener("pointermove", (e) => { const el = item(e.target); el ? show(el, e.clientX, e.clientY) : hide(); });
    rows.addEventListener("pointerleave", hide);
    rows.addEventListener("focusin", (e) => { const el = item(e.target); if (el) { const b = el.getBoundingClientRect(); show(el, b.left + Math.min(b.width / 2, 340), b.bottom - 8); } });
    rows.addEventListener("focusout", hide);
  }
  document.addEventListener("keydown", (e) => { if (e.key === "Escape") hide(); });

  const tree = document.getElementById("tree");
  if (!tree) return;
  const button = document.getElementById("whole"), sides = ["x", "y", "width", "height"];
  const box = (rect) => sides.map((side) => Number(rect.getAttribute(side)));
  const rects = [...tree.querySelectorAll("rect")].map((rect) => ({ rect, at: box(rect) }));
  const texts = [...tree.querySelectorAll("text")].map((text) => ({ text, at: box(text.parentNode.querySelector("rect")), name: text.parentNode.dataset.name, label: text.textContent, bold: text.closest(".frame") }));
  const frames = [...tree.querySelectorAll(".frame > rect")].map(box);
  const places = new Map(rects.map(({ rect, at }) => [rect, at]));
  const whole = tree.getAttribute("viewBox").split(" ").map(Number);
  let view = whole;
  const fit = (name, w) => { const room = Math.floor((w - 6) / 6.2), runes = [...name]; return runes.length <= room ? name : room < 4 ? "" : runes.slice(0, room - 1).join("") + "…"; };
  // look draws a part of the map as large as all of it, with labels as large as before, and as long as fit now.
  const look = (part) => {
    view = part;
    const [px, py, pw, ph] = part, sx = whole[2] / pw, sy = whole[3] / ph;
    const map = ([x, y, w, h]) => [(x - px) * sx, (y - py) * sy, w * sx, h * sy];
    for (const { rect, at } of rects) map(at).forEach((v, i) => rect.setAttribute(sides[i], v));
    for (const { text, at, name, label, bold } of texts) {
      const [x, y, w, h] = map(at);
      text.setAttribute("x", x + (bold ? 4 : 3));
      text.setAttribute("y", y + 11);
      text.textContent = part === whole ? label : h >= 14 ? fit(name, w) : "";
    }
    button.hidden = part === whole;
  };
  const back = () => look(whole);
  // closer shows the largest directory around a rectangle that is smaller than what is seen now.
  const closer = (el) => {
    const [x, y, w, h] = places.get(el.querySelector("rect")), [, , vw, vh] = view;
    const around = frames.filter(([fx, fy, fw, fh]) => fx <= x + .5 && fy <= y + .5 && fx + fw >= x + w - .5 && fy + fh >= y + h - .5 && (fw < vw * .95 || fh < vh * .95) && fw * fh < vw * vh * .9);
    if (around.length === 0) return;
    around.sort((a, b) => b[2] * b[3] - a[2] * a[3]);
    look(around[0]);
    hide();
  };
  tree.addEventListener("focusin", (e) => { // what the arrow keys lead to is seen
    const el = item(e.target);
    if (!el || view === whole) return;
    const [x, y, w, h] = places.get(el.querySelector("rect")), [vx, vy, vw, vh] = view;
    if (x < vx - .5 || y < vy - .5 || x + w > vx + vw + .5 || y + h > vy + vh + .5) back();
  });
  tree.addEventListener("click", (e) => { const el = item(e.target); if (el) closer(el); });
  tree.addEventListener("keydown", (e) => {
    const el = item(e.target);
    if (e.key === "Escape") back();
    else if (e.key === "Enter" && el) { e.preventDefault(); closer(el); }
  });
  button.addEventListener("click", () => { back(); tree.querySelector("[tabindex='0']").focus(); });
})();
