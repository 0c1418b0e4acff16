() => {
  // A result has its inputs as data: see `answer_to` in markup.py. It is marked as stale while the page
  // shows other inputs: typed, filled in, restored by the browser, or changed before the result
  // arrived. The last case needs no event, since every new result is compared. An error of the form is
  // shown at its field while the field still has the value.
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
  const markStale = () => {
    for (const answer of document.querySelectorAll("[data-inputs]")) {
      const inputs = Object.entries(JSON.parse(answer.dataset.inputs));
      const stale = inputs.some(([id, input]) => value(id) !== input);
      answer.classList.toggle("stale", stale);
      const note = answer.querySelector("[data-note]");
      const text = stale ? note.dataset.note : "";
      if (note.textContent !== text) note.textContent = text;
    }
    // Beside the button, too, which may be far from the answer. Only the answer's note is announced.
    const stale = document.querySelector("#answer .stale") !== null;
    document.documentElement.toggleAttribute("data-stale", stale);
    const button = document.getElementById("predict");
    if (stale) button?.setAttribute("aria-describedby", "changed");
    else button?.removeAttribute("aria-describedby");
  };
  const errors = () => {
    const answer = document.querySelector("#answer [data-inputs]");
    const inputs = answer ? JSON.parse(answer.dataset.inputs) : {};
    const items = [...(answer?.querySelectorAll("[data-field]") ?? [])];
    return new Map(items.filter(({ dataset: { field } }) => (value(field) ?? null) === inputs[field])
      .map((item) => [item.dataset.field, item.textContent]));
  };
  const markFields = () => {
    const texts = errors();
    for (const { id } of document.querySelectorAll("#patient .block[data-error]"))
      if (!texts.has(id)) showError(id, "");
    for (const [id, text] of texts) showError(id, text);
  };
  const showError = (id, text) => {
    const field = document.getElementById(id);
    if ((field.dataset.error ?? "") === text) return;
    const control = field.querySelector("input[type=number]") ?? field;
    field.querySelector(".field-error")?.remove();
    if (text === "") {
      delete field.dataset.error;
      for (const name of ["aria-invalid", "aria-describedby"]) control.removeAttribute(name);
      return;
    }
    field.dataset.error = text;
    const message = document.createElement("p");
    message.className = "field-error";
    message.id = `${id}-error`;
    message.textContent = text;
    field.append(message);
    control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-describedby", message.id);
  };
  const bringIntoView = () => {
    // Only an answer to the button, not one that is written again in another language.
    const answer = document.querySelector("#answer [data-new]");
    if (!answer) return;
    answer.removeAttribute("data-new");
    const invalid = document.querySelector("#patient .block[data-error] input");
    if (invalid) {
      invalid.focus();
      return;
    }
    const top = document.getElementById("answer").getBoundingClientRect().top;
    if (top < 0 || top > innerHeight / 2) answer.scrollIntoView({ block: "start" });
  };
  const mark = () => {
    markStale();
    markFields();
    bringIntoView();
  };
  // `inputs` is the page's own event: Gradio fills in values without one of the browser's.
  for (const event of ["input", "change", "inputs", "pageshow"]) addEventListener(event, mark, true);
  // The observer runs before changes are drawn.
  new MutationObserver(mark).observe(document.body, { subtree: true, childList: true });
  mark();
}
