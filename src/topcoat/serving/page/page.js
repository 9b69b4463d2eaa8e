/* The handles of the before/after sliders for the keyboard and for screen readers, which gradio leaves out. */
(() => {
  const STEP = 0.05;

  function drag(handle, wrap, share) {
    const box = wrap.getBoundingClientRect();
    const grip = handle.getBoundingClientRect();
    const y = box.top + box.height / 2;
    const from = grip.left + grip.width / 2;
    const to = box.left + Math.min(1, Math.max(0, share)) * box.width;
    const event = (type, x) => new MouseEvent(type, { bubbles: true, cancelable: true, view: window, clientX: x, clientY: y });
    handle.dispatchEvent(event("mousedown", from));
    window.dispatchEvent(event("mousemove", to));
    window.dispatchEvent(event("mouseup", to));
  }

  function share(handle, wrap) {
    const box = wrap.getBoundingClientRect();
    const grip = handle.getBoundingClientRect();
    return (grip.left + grip.width / 2 - box.left) / Math.max(1, box.width);
  }

  function tell(handle, wrap) {
    handle.setAttribute("aria-valuenow", String(Math.round(100 * share(handle, wrap))));
  }

  function prepare(handle) {
    if (handle.dataset.topcoat) return;
    handle.dataset.topcoat = "ready";
    const wrap = handle.closest(".wrap") || handle.parentElement;
    const label = handle.closest(".block")?.querySelector('[data-testid="block-label"]')?.textContent.trim();
    handle.tabIndex = 0;
    handle.setAttribute("role", "slider");
    handle.setAttribute("aria-label", (label ? label + ": " : "") + "divider");
    handle.setAttribute("aria-valuemin", "0");
    handle.setAttribute("aria-valuemax", "100");
    tell(handle, wrap);
    handle.addEventListener("keydown", (event) => {
      const at = share(handle, wrap);
      const goal = {
        ArrowLeft: at - STEP, ArrowDown: at - STEP, ArrowRight: at + STEP, ArrowUp: at + STEP, Home: 0, End: 1,
      }[event.key];
      if (goal === undefined) return;
      event.preventDefault();
      drag(handle, wrap, goal);
      requestAnimationFrame(() => tell(handle, wrap));
    });
    handle.addEventListener("blur", () => tell(handle, wrap));
    const names = (label || "before | after").split("|").map((part) => part.trim());
    wrap.querySelectorAll('[data-testid="imageslider-image"]').forEach((image, index) => {
      image.alt = names[index] || "";
    });
  }

  const prepareAll = () => document.querySelectorAll('[data-testid="slider"]').forEach(prepare);
  new MutationObserver(prepareAll).observe(document.documentElement, { childList: true, subtree: true });
})();
