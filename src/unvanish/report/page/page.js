"use strict";
(() => {
  const root = document.documentElement;

  // What the pictures show lies in the page packed, and is unpacked when it is asked for.
  const unpacked = async () => {
    const packed = blobOf(document.getElementById("pictures").textContent);
    return JSON.parse(await new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).text());
  };
  const blobOf = (text) => new Blob([Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0))]);
  const drawnStyles = ["fill", "stroke", "stroke-width", "stroke-linejoin", "paint-order", "font-family", "font-size"];

  const button = (words, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = words;
    made.addEventListener("click", () => act(made));
    return made;
  };

  const save = (name, blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };

  const visible = (node) => node.getClientRects().length > 0;

  // Outside the page a picture has neither its colours nor its font: what they come to is written into it.
  const alone = (svg) => {
    const copy = svg.cloneNode(true);
    const own = [...svg.querySelectorAll("*")];
    [...copy.querySelectorAll("*")].forEach((node, at) => {
      const style = getComputedStyle(own[at]);
      const names = node.tagName === "text" ? drawnStyles : drawnStyles.slice(0, 4);
      names.forEach((name) => node.style.setProperty(name, style.getPropertyValue(name)));
    });
    const { width, height } = svg.viewBox.baseVal;
    const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    Object.entries({ width, height, fill: getComputedStyle(root).getPropertyValue("--paper").trim() }).forEach((pair) =>
      paper.setAttribute(...pair),
    );
    copy.prepend(paper);
    Object.entries({ width, height, xmlns: "http://www.w3.org/2000/svg" }).forEach((pair) => copy.setAttribute(...pair));
    return { text: new XMLSerializer().serializeToString(copy), width, height };
  };

  const asImage = async (svg, name) => {
    const { text, width, height } = alone(svg);
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [2 * width, 2 * height];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(`${name}.png`, blob));
  };

  const titleOf = (axis) => (axis && axis.title && axis.title.text) || "";

  // One row per value: which series it is of, where it stands, how much it is.
  const rows = ({ data, layout }) => {
    const map = data.find((trace) => trace.z);
    const y = map ? "log10 of the gradient left" : titleOf(layout.yaxis) || "value";
    const head = map ? [titleOf(layout.xaxis), titleOf(layout.yaxis), y] : ["series", titleOf(layout.xaxis) || "name", y];
    if (map) return [head, ...map.z.flatMap((row, at) => row.map((value, on) => [map.x[on], map.y[at], value]))];
    return [head, ...data.flatMap((trace) => trace.x.map((value, at) => [trace.name, value, trace.y[at]]))];
  };

  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    // a spreadsheet would run what begins like a formula
    const safe = typeof value === "string" && /^[=+\-@\t]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };

  const asTable = (picture, name) =>
    save(`${name}.csv`, new Blob([rows(picture).map((row) => row.map(cell).join(",")).join("\n"), "\n"], { type: "text/csv" }));

  const shown = (plot) => [...plot.querySelectorAll("svg")].find(visible);

  for (const plot of document.querySelectorAll(".plot")) {
    const tools = document.createElement("p");
    tools.className = "tools";
    const act = (label, done) =>
      tools.append(
        button(label, () => {
          const svg = shown(plot);
          const at = [...plot.children].indexOf(svg && svg.closest(".view"));
          if (svg) done(svg, at > 0 ? `${plot.id}-${at + 1}` : plot.id, at);
        }),
      );
    act("SVG", (svg, name) => save(`${name}.svg`, new Blob([alone(svg).text], { type: "image/svg+xml" })));
    act("PNG", asImage);
    act("CSV", async (_, name, at) => asTable((await unpacked())[plot.id][at], name));
    plot.closest("figure").append(tools);
  }

  for (const block of document.querySelectorAll(".code-block")) {
    block.append(
      button("Copy", async (pressed) => {
        const code = block.querySelector("pre");
        getSelection().selectAllChildren(code);
        // a browser that does not let a file write to the clipboard leaves the code selected, to be copied by hand
        const copied = await navigator.clipboard?.writeText(code.textContent).then(() => true, () => false);
        pressed.textContent = copied ? "Copied" : "Selected";
      }),
    );
  }

  // Paper unfolds nothing: what is folded is printed open.
  addEventListener("beforeprint", () =>
    document.querySelectorAll("details:not([open])").forEach((one) => {
      one.open = true;
      one.dataset.folded = "";
    }),
  );
  addEventListener("afterprint", () =>
    document.querySelectorAll("details[data-folded]").forEach((one) => {
      one.open = false;
      delete one.dataset.folded;
    }),
  );
})();
