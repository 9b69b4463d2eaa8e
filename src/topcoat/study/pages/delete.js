// Asks once more before answers are deleted.
"use strict";

const form = document.getElementById("delete");
form.addEventListener("submit", (event) => {
  const sure = document.getElementById("sure");
  if (sure.hidden) {
    event.preventDefault();
    sure.hidden = false;
    form.querySelector("button").classList.add("danger");
  }
});
