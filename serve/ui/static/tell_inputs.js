() => {
  dispatchEvent(new Event("inputs"));
}
