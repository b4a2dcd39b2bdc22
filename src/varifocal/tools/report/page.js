"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const data = JSON.parse(document.getElementById("scenes").textContent);
  document.documentElement.classList.add("js");

  const dark = document.getElementById("dark");
  const theme = document.getElementById("theme");
  let night = matchMedia("(prefers-color-scheme: dark)").matches;
  const paint = () => {
    dark.media = night ? "all" : "not all";
    theme.textContent = night ? "Light page" : "Dark page";
  };
  theme.addEventListener("click", () => { night = !night; paint(); });
  paint();

  const make = (name, attributes) => {
    const one = document.createElementNS(SVG, name);
    for (const key in attributes) one.setAttribute(key, attributes[key]);
    return one;
  };
  const add = (name, words, parent, kind) => {
    const one = document.createElement(name);
    one.textContent = words;
    if (kind) one.className = kind;
    parent.append(one);
    return one;
  };
  const iou = (a, b) => {
    const w = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
    const h = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
    if (w <= 0 || h <= 0) return 0;
    const area = (c) => (c[2] - c[0]) * (c[3] - c[1]);
    return (w * h) / (area(a) + area(b) - w * h);
  };

  class Scene {
    constructor(element) {
      this.element = element;
      this.known = data[element.dataset.scene];
      this.run = element.dataset.run;
      this.example = element.closest(".example");
      this.image = element.querySelector(".image");
      this.slider = element.querySelector("input");
      this.marks = [];
      for (const mark of element.querySelectorAll(".found")) this.marks[+mark.dataset.index] = mark;
      this.chosen = -1;
      this.image.setAttribute("role", "group");
      this.marks.forEach((mark, index) => {
        mark.setAttribute("role", "button");
        mark.setAttribute("aria-label", mark.firstElementChild.textContent);
        mark.setAttribute("aria-pressed", "false");
        mark.addEventListener("click", () => this.choose(index, true));
      });
      this.image.addEventListener("keydown", (event) => this.key(event));
      element.querySelector(".previous").addEventListener("click", () => this.step(-1));
      element.querySelector(".next").addEventListener("click", () => this.step(1));
      this.slider.addEventListener("input", () => {
        for (const scene of scenes) if (scene.run === this.run) scene.threshold(this.slider.value);
      });
      this.rove();
    }

    visible() {
      return this.marks.map((_, index) => index).filter((index) => !this.marks[index].classList.contains("low"));
    }

    rove() {
      const stop = this.chosen >= 0 && !this.marks[this.chosen].classList.contains("low") ? this.chosen : this.visible()[0];
      this.marks.forEach((mark, index) => mark.setAttribute("tabindex", index === stop ? "0" : "-1"));
    }

    threshold(value) {
      const least = Number(value);
      this.slider.value = value;
      this.marks.forEach((mark, index) => mark.classList.toggle("low", this.known.found[index].score < least));
      this.element.querySelector(".least").textContent = least.toFixed(2);
      const shown = this.visible().length;
      this.element.querySelector(".count").textContent = `${shown} ${shown === 1 ? "box" : "boxes"}`;
      this.rove();
    }

    step(by) {
      const shown = this.visible();
      if (!shown.length) return -1;
      const at = shown.indexOf(this.chosen);
      const next = at < 0 ? shown[0] : shown[(at + by + shown.length) % shown.length];
      this.choose(next, true);
      return next;
    }

    key(event) {
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
      if (event.key in steps) this.marks[this.step(steps[event.key])]?.focus();
      else if (event.key === "Enter" || event.key === " ") event.target.dispatchEvent(new Event("click"));
      else return;
      event.preventDefault();
    }

    choose(index, lead) {
      if (this.chosen >= 0) this.mark(this.chosen, false);
      this.chosen = index;
      this.element.querySelector(".detail").hidden = index < 0;
      if (index >= 0) {
        this.mark(index, true);
        this.draw(this.known.found[index]);
        this.describe(this.known.found[index]);
      }
      this.rove();
      if (lead) for (const other of scenes) {
        if (other !== this && other.example === this.example) other.choose(other.partner(this.known.found[index]), false);
      }
    }

    // this run's detection of the same object: the best one of the same ground truth box, or else the one that overlaps most
    partner(found) {
      const all = this.known.found;
      const same = all.findIndex((one) => found.truth >= 0 && found.iou >= 0.3 && one.truth === found.truth && one.iou >= 0.3);
      if (same >= 0) return same;
      let best = -1, most = 0.3;
      all.forEach((one, index) => {
        const value = iou(one.box, found.box);
        if (value > most) { most = value; best = index; }
      });
      return best;
    }

    mark(index, on) {
      const mark = this.marks[index];
      mark.classList.toggle("chosen", on);
      mark.setAttribute("aria-pressed", String(on));
    }

    draw(found) {
      const truth = found.truth >= 0 ? this.known.truth[found.truth] : null;
      const boxes = [found.box, found.initial, found.refined, truth].filter(Boolean);
      const first = [0, 1].map((i) => Math.min(...boxes.map((box) => box[i])));
      const last = [2, 3].map((i) => Math.max(...boxes.map((box) => box[i])));
      const side = 1.5 * Math.max(last[0] - first[0], last[1] - first[1], 4);
      const corner = [0, 1].map((i) => (first[i] + last[i] - side) / 2);
      const parts = this.known.refines ? ", first box, star, refined box" : ", box, star";
      const words = "Close-up: " + found.name + (found.initial ? parts : "");
      const svg = make("svg", { viewBox: [...corner, side, side].join(" "), class: "closeup", role: "img", "aria-label": words });
      svg.append(make("use", { href: this.image.querySelector("use").getAttribute("href") }));
      const rect = (box, kind) => {
        const sides = { x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1] };
        if (kind !== "c-initial") svg.append(make("rect", { ...sides, class: "halo" }));
        svg.append(make("rect", { ...sides, class: kind }));
      };
      if (truth) rect(truth, "c-truth");
      if (found.refined) rect(found.refined, "c-refined");
      if (!found.refined || this.moved(found)) rect(found.box, found.refined ? "c-kept" : "c-refined");
      if (found.initial) {
        if (this.known.refines) rect(found.initial, "c-initial"); // above the refined box, which often lies on it: it is dashed
        this.star(svg, found, side);
      }
      this.element.querySelector(".close").replaceChildren(svg);
    }

    star(svg, found, side) {
      const [x, y] = found.center;
      const [x1, y1, x2, y2] = found.initial;
      const points = [y1, y, y2].flatMap((b) => [x1, x, x2].map((a) => [a, b]));
      for (const [a, b] of points) svg.append(make("line", { x1: x, y1: y, x2: a, y2: b, class: "c-ray" }));
      for (const [a, b] of points) svg.append(make("circle", { cx: a, cy: b, r: side / 70, class: "c-point" }));
    }

    moved(found) {
      return found.refined.some((value, i) => Math.abs(value - found.box[i]) > 0.15);
    }

    describe(found) {
      const description = this.element.querySelector(".description");
      description.replaceChildren();
      add("p", `${found.name}, ${found.kind}`, description, "what");
      const table = document.createElement("table");
      const without = "It does not overlap a ground truth box of its class.";
      add("caption", found.truth < 0 ? without : "IoU with the ground truth box", table);
      const body = table.appendChild(document.createElement("tbody"));
      const row = (words, value, kind, more) => {
        const line = body.appendChild(document.createElement("tr"));
        const head = add("th", "", line);
        head.scope = "row";
        if (kind) add("span", "", head, "key " + kind).setAttribute("aria-hidden", "true");
        head.append(words);
        add("td", (value === null ? "-" : value.toFixed(2)) + (more || ""), line);
      };
      const current = found.truth < 0 ? null : found.iou;
      const change = (to, from) => {
        if (to === null || from === null) return "";
        const size = Math.abs(to - from).toFixed(2);
        return size === "0.00" ? " (0.00)" : ` (${to < from ? "−" : "+"}${size})`;
      };
      if (found.initial) {
        const [before, after] = found.truth < 0 ? [null, null] : found.ious;
        if (this.known.refines) row("first box", before, "k-initial");
        row(this.known.refines ? "refined box" : "box", after, "k-refined", this.known.refines ? change(after, before) : "");
        if (this.moved(found)) row("mean over tiles", current, "k-kept", change(current, after));
      } else row("box", current, "k-refined");
      row("score (minus IoU)", found.score, "", change(found.score, current));
      description.append(table);
    }
  }

  const scenes = [];
  for (const element of document.querySelectorAll(".scene")) scenes.push(new Scene(element));
  const truths = document.getElementById("truths");
  truths?.addEventListener("change", () => {
    document.getElementById("examples").classList.toggle("untrue", !truths.checked);
  });
  const start = scenes[0]?.visible().find((index) => scenes[0].known.found[index].iou >= 0.5);
  if (start !== undefined) scenes[0].choose(start, true);
})();
