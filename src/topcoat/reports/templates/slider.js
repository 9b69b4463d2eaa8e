(function () {
  "use strict";
  function one(id) { return document.getElementById(id); }
  function press(group, chosen) {
    group.querySelectorAll("button").forEach(function (button, index) {
      button.setAttribute("aria-pressed", String(index === chosen));
    });
  }
  function add(group, label, content, onClick) {
    var button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", label);
    button.append(content);
    button.addEventListener("click", onClick);
    group.append(button);
  }
  var rows = Array.from(document.querySelectorAll("#gallery figure"));
  var kinds = Array.from(rows[0].querySelectorAll(".row span"), function (span) { return span.textContent; });
  var pairs = kinds.length < 3 ? [[0, 1]] : [[0, 1], [1, 2], [0, 2]];
  var subject = 0, pair = 0;
  function put(place, image, kind) {
    one(place).src = image.src;
    one(place).alt = kinds[kind];
    one(place + "-tag").textContent = kinds[kind];
  }
  function show() {
    var images = rows[subject].querySelectorAll("img"), left = pairs[pair][0], right = pairs[pair][1];
    put("left", images[left], left);
    put("right", images[right], right);
    if (kinds.length > 2) { put("third", images[3 - left - right], 3 - left - right); }
    one("caption").innerHTML = rows[subject].querySelector("figcaption").innerHTML;
    press(one("thumbs"), subject);
    press(one("choices"), pair);
  }
  one("slider").addEventListener("input", function () {
    one("compare").style.setProperty("--at", one("slider").value + "%");
  });
  if (pairs.length > 1) {
    pairs.forEach(function (sides, index) {
      var name = kinds[sides[0]] + " | " + kinds[sides[1]];
      add(one("choices"), "Compare " + name, name, function () { pair = index; show(); });
    });
  }
  rows.forEach(function (row, index) {
    var image = document.createElement("img");
    image.src = row.querySelectorAll("img")[1].src;
    image.alt = "";
    add(one("thumbs"), "Show subject " + (index + 1), image, function () { subject = index; show(); });
  });
  show();
})();
