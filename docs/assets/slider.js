// The start page's slider: two rows of the contact sheet over each other, one subject at a time.
(function () {
  "use strict";
  // px of docs/images/contact.png: tiles of 256 px every 262 px, the first one at (120, 6)
  var sheet = { width: 2746, height: 792, tile: 256, pitch: 262, left: 120, top: 6, subjects: 10 };
  var rows = ["distilled", "distilled + head", "baseline"];

  function element(kind, name, parent) {
    var made = document.createElement(kind);
    made.className = name;
    if (parent) parent.appendChild(made);
    return made;
  }

  function build(root) {
    var source = root.querySelector("img").src;
    var images = element("div", "tc-slider__images");
    var layers = [0, 1].map(function () {
      var layer = element("div", "tc-slider__image", images);
      layer.style.backgroundImage = "url(" + JSON.stringify(source) + ")";
      layer.style.backgroundSize = (100 * sheet.width) / sheet.tile + "% " + (100 * sheet.height) / sheet.tile + "%";
      return layer;
    });
    var line = element("div", "tc-slider__line", images);
    var left = element("div", "tc-slider__name tc-slider__name--left", images);
    var right = element("div", "tc-slider__name tc-slider__name--right", images);
    var range = element("input", "tc-slider__range", images);
    range.type = "range";
    range.min = 0;
    range.max = 100;
    range.value = 50;
    range.setAttribute("aria-label", "Where the two images meet, in percent");
    var choice = element("div", "tc-slider__choice");
    var subject = 4, shown = [0, 1];

    function place(layer, row) {
      var x = sheet.left + subject * sheet.pitch, y = sheet.top + row * sheet.pitch;
      layer.style.backgroundPosition =
        (100 * x) / (sheet.width - sheet.tile) + "% " + (100 * y) / (sheet.height - sheet.tile) + "%";
    }

    function draw() {
      layers.forEach(function (layer, number) { place(layer, shown[number]); });
      layers[1].style.clipPath = "inset(0 0 0 " + range.value + "%)";
      line.style.left = range.value + "%";
      left.textContent = rows[shown[0]];
      right.textContent = rows[shown[1]];
      choice.querySelectorAll("button[data-row]").forEach(function (button) {
        button.setAttribute("aria-pressed", String(Number(button.dataset.row) === shown[1]));
      });
    }

    [1, 2].forEach(function (row) {
      var button = element("button", "", choice);
      button.type = "button";
      button.dataset.row = row;
      button.textContent = "against " + rows[row];
      button.addEventListener("click", function () { shown = [0, row]; draw(); });
    });
    var next = element("button", "", choice);
    next.type = "button";
    next.textContent = "next subject";
    next.addEventListener("click", function () { subject = (subject + 1) % sheet.subjects; draw(); });
    range.addEventListener("input", draw);
    root.replaceChildren(images, choice);
    draw();
  }

  document.addEventListener("DOMContentLoaded", function () {
    document.querySelectorAll(".tc-slider").forEach(build);
  });
})();
