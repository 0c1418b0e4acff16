() => {
  // A result has its inputs as data: see `answer_to` in markup.py. It is marked as stale while the page
  // shows other inputs: typed, filled in, restored by the browser, or changed before the result
  // arrived. The last case needs no event, since every new result is compared.
  const value = (id) => {
    const inputs = [...document.querySelectorAll(`#${id} :is(input, textarea)`)];
    const [first] = inputs;
    switch (first?.type) {
      case "radio": {
        const chosen = inputs.find((input) => input.checked)?.value ?? null;
        return chosen === "not_measured" ? null : chosen;
      }
      case "checkbox":
        return first.checked;
      case "number":
        if (first.validity.badInput) return undefined;
        return first.value === "" ? null : Number(first.value);
      default:
        return first?.value;
    }
  };
  const mark = () => {
    for (const answer of document.querySelectorAll("[data-inputs]")) {
      const inputs = Object.entries(JSON.parse(answer.dataset.inputs));
      const stale = inputs.some(([id, input]) => value(id) !== input);
      answer.classList.toggle("stale", stale);
      const note = answer.querySelector("[data-note]");
      const text = stale ? note.dataset.note : "";
      if (note.textContent !== text) note.textContent = text;
    }
  };
  // `inputs` is the page's own event: Gradio fills in values without one of the browser's.
  for (const event of ["input", "change", "inputs", "pageshow"]) addEventListener(event, mark, true);
  // The observer runs before changes are drawn.
  new MutationObserver(mark).observe(document.body, { subtree: true, childList: true });
  mark();
}
