() => {
  // The buttons of an answer, which is written anew each time: so the page listens, not the button.
  // The reference of a printout is in its field only: not stored, and in no request.
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
  addEventListener("beforeprint", () => {
    const now = new Date().toLocaleString(document.documentElement.lang, { dateStyle: "long", timeStyle: "short" });
    for (const time of document.querySelectorAll("[data-printed]")) time.textContent = now;
  });
  let answered = "";
  const reset = () => {
    // Gradio keeps what is alike in two answers: the reference is that of the patient before.
    const id = document.querySelector("#answer .prediction-id")?.textContent ?? "";
    if (id === answered) return;
    answered = id;
    const [input, button] = ["reference", "copy"].map((name) => document.querySelector(`#answer [data-${name}]`));
    if (input) input.value = "";
    if (button) button.textContent = button.dataset.label;
  };
  new MutationObserver(reset).observe(document.body, { subtree: true, childList: true, characterData: true });
}
