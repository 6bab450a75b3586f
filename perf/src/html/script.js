// Under the pointer, the value of each curve. The page is whole without it.
(() => {
  const tip = document.getElementById("tip");
  for (const plot of document.querySelectorAll("svg.plot")) {
    const cursor = plot.querySelector(".cursor");
    const lines = [...plot.querySelectorAll("polyline[data-labels]")].map((line) => ({
      name: line.dataset.name,
      labels: line.dataset.labels.split("|"),
      points: line.getAttribute("points").split(" ").map((point) => point.split(",").map(Number)),
    }));
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const x = ((event.clientX - box.left) * plot.viewBox.baseVal.width) / box.width;
      let at = null;
      const told = lines.map(({ name, labels, points }) => {
        let best = 0;
        points.forEach(([px], index) => {
          if (Math.abs(px - x) < Math.abs(points[best][0] - x)) best = index;
        });
        if (at === null) at = points[best][0];
        return name + ": " + labels[best];
      });
      if (at === null) return;
      cursor.setAttribute("x1", at);
      cursor.setAttribute("x2", at);
      cursor.style.display = "";
      tip.textContent = told.join("\n");
      tip.style.display = "block";
      const left = Math.min(event.pageX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
      tip.style.left = left + "px";
      tip.style.top = event.pageY + 14 + "px";
    });
    plot.addEventListener("pointerleave", () => {
      tip.style.display = "none";
      cursor.style.display = "none";
    });
  }
  // What was drawn, and whether it fits: for whoever looks at the page without eyes.
  document.body.dataset.plots = document.querySelectorAll("svg.plot").length;
  document.body.dataset.fits = document.documentElement.scrollWidth <= document.documentElement.clientWidth;
})();
