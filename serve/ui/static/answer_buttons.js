() => {
  // The buttons of an answer, which is written anew each time: so the page listens, not the button.
  let reference = "";  // for the printout: in this window only, and in no request
  const copy = async (button) => {
    const text = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // no clipboard without https: select the text, to be copied by keyboard
      getSelection().selectAllChildren(document.querySelector("#answer .prediction-id"));
      if (!document.execCommand("copy")) return;
    }
    button.textContent = button.dataset.done;
  };
  const write = (input, text) => {
    input.value = text;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const record = (id) => {
    // By the button that shows the tab: its fields are only there once it was opened.
    document.querySelectorAll("[role=tablist] [role=tab]")[__TAB__].click();
    const fill = () => {
      const input = document.querySelector("#prediction_id :is(input, textarea)");
      if (!input?.offsetParent) return requestAnimationFrame(fill);
      write(input, id);
      document.querySelector("#outcome input").focus();
    };
    fill();
  };
  addEventListener("click", ({ target }) => {
    const button = target.closest?.("#answer button");
    if (!button) return;
    if (button.dataset.copy) copy(button);
    if (button.dataset.record) record(button.dataset.record);
    if ("print" in button.dataset) print();
  });
  addEventListener("input", ({ target }) => {
    if ("reference" in (target.dataset ?? {})) reference = target.value;
  });
  addEventListener("beforeprint", () => {
    const now = new Date().toLocaleString(document.documentElement.lang, { dateStyle: "long", timeStyle: "short" });
    for (const time of document.querySelectorAll("[data-printed]")) time.textContent = now;
  });
  const restore = () => {
    const input = document.querySelector("[data-reference]");
    if (input && input.value !== reference && input !== document.activeElement) input.value = reference;
  };
  new MutationObserver(restore).observe(document.body, { subtree: true, childList: true });
}
