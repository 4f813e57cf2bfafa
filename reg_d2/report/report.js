"use strict";
(() => {
  const viewer = document.getElementById("viewer");
  const stage = document.getElementById("stage");
  const caption = document.getElementById("viewer-caption");
  let group = [];
  let place = 0;

  function show() {
    const opener = group[place];
    const panels = [...opener.querySelectorAll("img")];
    stage.replaceChildren(...panels.map((image) => {
      const figure = document.createElement("figure");
      const copy = document.createElement("img");
      copy.src = image.src;
      copy.alt = image.alt;
      figure.append(copy);
      const title = image.nextElementSibling;
      if (title) {
        const line = document.createElement("figcaption");
        line.textContent = title.textContent;
        figure.append(line);
      }
      return figure;
    }));
    stage.classList.toggle("single", !opener.classList.contains("item"));
    const text = opener.querySelector(".caption");
    caption.textContent = text ? text.textContent : panels[0].alt;
  }

  function step(by) {
    place = (place + by + group.length) % group.length;
    show();
  }

  for (const opener of document.querySelectorAll(".enlarge")) {
    opener.addEventListener("click", () => {
      const around = opener.closest(".items, .figures");
      group = [...around.querySelectorAll(".enlarge")].filter((other) => !other.hidden);
      place = group.indexOf(opener);
      show();
      viewer.showModal();
    });
  }
  document.getElementById("previous").addEventListener("click", () => step(-1));
  document.getElementById("next").addEventListener("click", () => step(1));
  document.getElementById("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });

  const byClass = document.getElementById("filter-class");
  const byRun = document.getElementById("filter-run");
  function filter() {
    const wanted = byClass.value;
    for (const gallery of document.querySelectorAll(".gallery")) {
      const run = byRun ? byRun.value : "";
      gallery.hidden = run !== "" && gallery.dataset.run !== "" && gallery.dataset.run !== run;
      let left = 0;
      for (const item of gallery.querySelectorAll(".item")) {
        item.hidden = wanted !== "" && !item.dataset.classes.split(" ").includes(wanted);
        left += !item.hidden;
      }
      gallery.querySelector(".none").hidden = left > 0;
    }
  }
  for (const select of [byClass, byRun]) if (select) select.addEventListener("change", filter);

  addEventListener("beforeprint", () => {
    for (const folded of document.querySelectorAll("details")) folded.open = true;
    for (const image of document.querySelectorAll("img")) image.loading = "eager";
  });
})();
