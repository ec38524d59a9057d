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
  const whole = tree.getAttribute("viewBox"), button = document.getElementById("whole");
  const box = (el) => { const r = el.querySelector("rect"); return ["x", "y", "width", "height"].map((a) => Number(r.getAttribute(a))); };
  const frames = [...tree.querySelectorAll(".frame")].map(box);
  const view = () => tree.getAttribute("viewBox").split(" ").map(Number);
  const back = () => { tree.setAttribute("viewBox", whole); button.hidden = true; };
  // closer shows the largest directory around a rectangle that is smaller than what is seen now.
  const closer = (el) => {
    const [x, y, w, h] = box(el), [, , vw, vh] = view();
    const around = frames.filter(([fx, fy, fw, fh]) => fx <= x + .5 && fy <= y + .5 && fx + fw >= x + w - .5 && fy + fh >= y + h - .5 && (fw < vw * .95 || fh < vh * .95) && fw * fh < vw * vh * .9);
    if (around.length === 0) return;
    around.sort((a, b) => b[2] * b[3] - a[2] * a[3]);
    tree.setAttribute("viewBox", around[0].join(" "));
    button.hidden = false;
    hide();
  };
  tree.addEventListener("click", (e) => { const el = item(e.target); if (el) closer(el); });
  tree.addEventListener("keydown", (e) => {
    const el = item(e.target);
    if (e.key === "Escape") back();
    else if (e.key === "Enter" && el) { e.preventDefault(); closer(el); }
  });
  button.addEventListener("click", () => { back(); tree.querySelector("[tabindex='0']").focus(); });
})();
